"""What the tests of the Slack outbox share: installs that name their channels at once, and posts tried one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select

from chatbotctl.core.config import Key
from chatbotctl.core.flow.slack_poster import claim_in, deliver_post
from chatbotctl.core.records.slack import OwedPost
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage import slack_posts
from chatbotctl.core.wiring import Core
from tests.fakes.loopback import Response
from tests.installs import Vendors, install, sqlite_database

_posts = tables.slack_posts.c

GARAGE = "whatsapp:+15550002222"


def customer(number: int) -> str:
    return f"whatsapp:+1555222{number:04}"


def refused(error: str) -> Response:
    return Response(200, {"ok": False, "error": error})


@contextmanager
def slack_site(vendors: Vendors, folder: Path, flags: dict[Key, object] | None = None) -> Iterator[Core]:
    named: dict[Key, object] = {("slack", "channel_name_template"): "c-{customer}"}
    with install(vendors, flags={**named, **(flags or {})}, database_url=sqlite_database(folder)) as core:
        yield core


def states(core: Core) -> list[tuple[str, str | None]]:
    with core.database.read() as tx:
        rows = tx.execute(tables.slack_posts.select().order_by(tables.slack_posts.c.id))
        return [(row.state, row.error_code) for row in rows]


def claim_next(core: Core) -> OwedPost | None:
    """Claim the oldest post that is due."""
    with core.database.read() as tx:
        lanes = tx.scalars(select(_posts.lane).where(_posts.id.in_(slack_posts.due(tx, limit=1)))).all()
    return claim_in(core.services, lanes[0]) if lanes else None


def deliver_next(core: Core) -> None:
    """Try the next post once."""
    post = claim_next(core)
    assert post is not None, "nothing is due"
    deliver_post(core.services, post)


def make_due(core: Core, *, older: float = 0.0) -> None:
    """The wait is over: `older` seconds have passed."""
    with core.database.write() as tx:
        tx.execute(tables.slack_posts.update().values(next_at=0.0, created_at=_posts.created_at - older))
