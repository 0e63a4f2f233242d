"""A poster that was frozen for longer than its lease, while another process took its post over, does no harm."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from chatbotctl.core.errors import LeaseLost
from chatbotctl.core.flow.slack_place import find_or_make
from chatbotctl.core.flow.slack_poster import deliver_post
from chatbotctl.core.records.slack import OwedPost
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.wiring import Core
from tests.fakes.slack_server import FakeSlack
from tests.installs import Vendors, add_business, take_in
from tests.integration.slack_site import claim_next, refused, slack_site, states


def taken_over(core: Core) -> tuple[OwedPost, OwedPost]:
    """The same post as its frozen poster has it, and as its heir has."""
    frozen = claim_next(core)
    with core.database.write() as tx:
        tx.execute(tables.slack_posts.update().values(lease_until=0.0))
    heir = claim_next(core)
    assert frozen is not None and heir is not None and frozen.id == heir.id
    return frozen, heir


def test_line_stands_in_slack_once(vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack) -> None:
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        take_in(core, "one")
        frozen, heir = taken_over(core)
        deliver_post(core.services, heir)
        with capture_logs() as logs:
            deliver_post(core.services, frozen)
        assert states(core) == [("posted", None)]
    assert [entry["event"] for entry in logs] == ["slack_lease_lost"]
    assert fake_slack.texts("c-15552220000") == ["+15552220000\none"]


def test_conversation_stays_in_the_channel_that_the_heir_made(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack
) -> None:
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        take_in(core, "one")
        frozen, heir = taken_over(core)
        with pytest.raises(LeaseLost):
            find_or_make(core.services, frozen)
        deliver_post(core.services, heir)
        with core.database.read() as tx:
            channel = tx.scalar(select(tables.business_clients.c.slack_channel))
    assert fake_slack.texts(str(channel)) == ["+15552220000\none"]


def test_what_it_learns_too_late_changes_nothing(vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack) -> None:
    with slack_site(vendors, tmp_path) as core:
        add_business(core)
        take_in(core, "one")
        frozen, heir = taken_over(core)
        fake_slack.plan("conversations.create", times=1, response=refused("ratelimited"))
        deliver_post(core.services, frozen)
        assert states(core) == [("posting", None)], "the heir is at it"
        deliver_post(core.services, heir)
        assert states(core) == [("posted", None)]
