"""When WhatsApp does not take a reply: for good, for the moment, or nobody knows whether it did."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from chatbotctl.core import failpoints
from chatbotctl.core.errors import StorageUnavailable
from chatbotctl.core.flow import mirror_to_slack
from chatbotctl.core.flow.accept import Accepted
from chatbotctl.core.flow.send_reply import Delivery, Sending
from chatbotctl.core.flow.settle import settle
from chatbotctl.core.flow.worker import work_once
from chatbotctl.core.records.message import Result
from chatbotctl.core.records.turn import Failure, SentMessage, Turn
from chatbotctl.core.storage import businesses, conversations, outbox
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.database_faults import UnreadableRow
from chatbotctl.core.storage.engine import now
from chatbotctl.core.wiring import Core
from tests.contract import store
from tests.fakes.loopback import Request, Response
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import FakeTwilio, refusal
from tests.installs import (
    CUSTOMER,
    Vendors,
    add_business,
    answer,
    away_for_a_moment,
    eventually,
    install,
    outcome,
    post_to_slack,
    sqlite_database,
    take_in,
    work,
)

LONG = "\n\n".join("word " * 250 for _ in range(3))


def slack_shows(core: Core, slack: FakeSlack) -> list[str]:
    post_to_slack(core, 1)
    (channel,) = slack.channels
    return slack.texts(channel)


def parts(core: Core, accepted: Accepted) -> list[tuple[str, str | None]]:
    """State and error code of each part of the reply."""
    with core.database.read() as tx:
        return [(part.state, part.error_code) for part in outbox.replies_to(tx, accepted.sid)]


def events_sent(core: Core) -> list[bool]:
    """Whether each part that was sent was found in Twilio's list, as the timeline tells."""
    with core.database.read() as tx:
        rows = tx.execute(tables.events.select().where(tables.events.c.kind == "sent")).all()
    return [row.detail["found"] for row in rows]


def failures(core: Core) -> list[dict[str, object]]:
    """What the timeline says of parts that did not leave."""
    with core.database.read() as tx:
        rows = tx.execute(tables.events.select().where(tables.events.c.kind == "send_failed")).all()
    return [row.detail for row in rows]


def expire_lease(core: Core) -> None:
    """Whoever has the conversation is dead or frozen for longer than its lease."""
    with core.database.write() as tx:
        tx.execute(tables.business_clients.update().values(lease_until=now() - 1))


def make_due(core: Core) -> None:
    """The wait is over."""
    with core.database.write() as tx:
        tx.execute(tables.business_clients.update().values(ready_at=0.0))


# for good


def test_closed_window_is_a_dead_letter_that_slack_shows_with_the_reply(
    any_site: Core, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    add_business(any_site, slack_users=["U1"])
    fake_twilio.plan("Messages", times=9, response=refusal(63016))
    accepted = take_in(any_site, "Hello")

    assert work(any_site, accepted.conversation_id) is None

    assert (outcome(any_site, accepted).result, outcome(any_site, accepted).code) == (Result.FAILED, "send_failed")
    assert parts(any_site, accepted) == [("failed", "63016")]
    assert len(fake_twilio.seen("Messages", "POST")) == 1
    _, alert = slack_shows(any_site, fake_slack)
    assert "<@U1>" in alert
    assert "The reply was not delivered: The customer last wrote more than 24 hours ago" in alert
    assert "You said: Hello" in alert


def test_what_follows_a_part_that_failed_is_not_sent_and_slack_shows_all_that_is_missing(
    site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    add_business(site)
    fake_openai.reply = lambda _: "\n\n".join(f"part{number} " + "word " * 280 for number in (1, 2, 3))
    accepted = take_in(site)
    fake_twilio.plan("Messages", response=None)
    fake_twilio.plan("Messages", times=9, response=refusal(21610))

    work(site, accepted.conversation_id)

    assert [state for state, _ in parts(site, accepted)] == ["sent", "failed", "failed"]
    _, reply, alert = slack_shows(site, fake_slack)
    assert "part1" in reply and "part2" not in reply
    assert "part1" not in alert and "part2" in alert and "part3" in alert


def test_refusal_stays_one_when_the_process_dies_right_after_it(
    site: Core, fake_twilio: FakeTwilio, fake_slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_business(site)
    fake_twilio.plan("Messages", times=1, response=refusal(63016))
    accepted = take_in(site, "Hello")

    def dies(*_: object) -> None:
        raise StorageUnavailable

    with monkeypatch.context() as dying:
        dying.setattr("chatbotctl.core.flow.pipeline.settle", dies)
        with pytest.raises(StorageUnavailable):
            work(site, accepted.conversation_id)
    expire_lease(site)
    work(site, accepted.conversation_id)

    became = outcome(site, accepted)
    assert (became.result, became.code) == (Result.FAILED, "send_failed")
    assert became.message == "WhatsApp (Twilio) did not take the reply (63016)."
    assert len(failures(site)) == 1
    assert len(fake_twilio.seen("Messages", "POST")) == 1
    assert f"The reply was not delivered: {became.message}" in slack_shows(site, fake_slack)[-1]


def test_install_without_an_account_to_send_by_says_so(
    fake_openai: FakeOpenAI, fake_slack: FakeSlack, tmp_path: Path
) -> None:
    vendors = Vendors(openai=fake_openai, slack=fake_slack)
    with install(vendors, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)

        became = answer(core)

        assert (became.result, became.code) == (Result.FAILED, "configuration")
        assert "no Twilio account" in slack_shows(core, fake_slack)[-1]


# for the moment


def test_busy_twilio_is_tried_again_in_the_same_turn(vendors: Vendors, tmp_path: Path, fake_twilio: FakeTwilio) -> None:
    fake_twilio.plan("Messages", times=1, response=refusal(20429, status=429))
    with install(vendors, flags={("twilio", "attempts"): 2}, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)

        assert answer(core, "Hello").result is Result.REPLIED

    assert fake_twilio.sent() == ["You said: Hello"]


def test_twilio_that_stays_busy_puts_the_reply_off_and_the_model_is_not_asked_again(
    site: Core, fake_twilio: FakeTwilio, fake_openai: FakeOpenAI, fake_slack: FakeSlack
) -> None:
    add_business(site)
    fake_twilio.plan("Messages", times=1, response=refusal(20429, status=429))
    accepted = take_in(site, "Hello")

    assert 2.5 <= (work(site, accepted.conversation_id) or 0.0) <= 5.0
    assert outcome(site, accepted).result is Result.QUEUED
    assert parts(site, accepted) == [("ready", "20429")]
    make_due(site)
    work(site, accepted.conversation_id)

    assert outcome(site, accepted).result is Result.REPLIED
    assert fake_twilio.sent() == ["You said: Hello"]
    assert len(fake_openai.asked) == 1
    assert slack_shows(site, fake_slack)[1:] == ["Assistant\nYou said: Hello"], "no alert for what was made good"


def test_busy_twilio_is_left_alone_for_as_long_as_it_asks(site: Core, fake_twilio: FakeTwilio) -> None:
    add_business(site)
    busy = refusal(20429, status=429, headers={"Retry-After": "120"})
    fake_twilio.plan("Messages", times=1, response=busy)
    accepted = take_in(site, "Hello")

    assert (work(site, accepted.conversation_id) or 0.0) >= 119.0


def test_unreachable_twilio_gets_the_reply_when_it_is_back(
    vendors: Vendors, tmp_path: Path, fake_openai: FakeOpenAI
) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    away = {("twilio", "api_base_url"): f"http://127.0.0.1:{port}"}
    with install(vendors, flags=away, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        accepted = take_in(core, "Hello")
        assert 2.5 <= (work(core, accepted.conversation_id) or 0.0) <= 5.0

        with FakeTwilio().start(port) as back:
            make_due(core)
            work(core, accepted.conversation_id)
            assert back.sent() == ["You said: Hello"]
    assert len(fake_openai.asked) == 1


def test_outage_that_outlasts_all_attempts_ends_as_a_dead_letter(
    vendors: Vendors, tmp_path: Path, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    fake_twilio.plan("Messages", times=99, response=refusal(20429, status=429))
    with install(vendors, flags={("worker", "attempts"): 3}, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        accepted = take_in(core, "Hello")
        waits = []
        for _ in range(3):
            make_due(core)
            waits.append(work(core, accepted.conversation_id) or 0.0)

        assert 2.5 <= waits[0] <= 5.0 <= waits[1] <= 10.0
        assert waits[2] == 0.0, "there is nothing to wait for any more"
        assert parts(core, accepted) == [("failed", "20429")]
        assert "The reply was not delivered" in slack_shows(core, fake_slack)[-1]


def test_half_sent_reply_goes_on_where_it_stopped(site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio) -> None:
    add_business(site)
    fake_openai.reply = lambda _: LONG
    accepted = take_in(site)
    fake_twilio.plan("Messages", response=None)
    fake_twilio.plan("Messages", times=1, response=refusal(20429, status=429))
    work(site, accepted.conversation_id)
    assert len(fake_twilio.sent()) == 1

    make_due(site)
    work(site, accepted.conversation_id)

    assert " ".join(" ".join(fake_twilio.sent()).split()) == " ".join(LONG.split())


# nobody knows

NO_ANSWER = [{"cut": True}, {"response": refusal(20500, status=500)}, {"response": Response(201, b"<html>")}]


@pytest.mark.parametrize("trouble", NO_ANSWER, ids=["cut", "500", "junk"])
@pytest.mark.parametrize(("accept", "posts"), [(True, 1), (False, 2)], ids=["taken", "not taken"])
def test_reply_whose_fate_is_unknown_is_looked_for_before_it_is_sent_again(
    vendors: Vendors, tmp_path: Path, fake_twilio: FakeTwilio, trouble: dict[str, Any], accept: bool, posts: int
) -> None:
    fake_twilio.plan("Messages", method="POST", times=1, accept=accept, **trouble)
    with install(vendors, flags={("twilio", "attempts"): 2}, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        accepted = take_in(core, "Hello")

        work(core, accepted.conversation_id)

        assert outcome(core, accepted).result is Result.REPLIED
        assert parts(core, accepted) == [("sent", None)]
    assert fake_twilio.sent() == ["You said: Hello"]
    assert len(fake_twilio.seen("Messages", "POST")) == posts


@pytest.mark.parametrize("trouble", NO_ANSWER, ids=["cut", "500", "junk"])
@pytest.mark.parametrize("accept", [True, False], ids=["taken", "not taken"])
def test_reply_whose_fate_stays_unknown_is_looked_for_when_the_turn_is_gone_on_with(
    any_site: Core, fake_twilio: FakeTwilio, fake_openai: FakeOpenAI, trouble: dict[str, Any], accept: bool
) -> None:
    add_business(any_site)
    fake_twilio.plan("Messages", method="POST", times=1, accept=accept, **trouble)
    accepted = take_in(any_site, "Hello")

    assert work(any_site, accepted.conversation_id) is not None
    assert [state for state, _ in parts(any_site, accepted)] == ["sending"]
    make_due(any_site)
    work(any_site, accepted.conversation_id)

    assert outcome(any_site, accepted).result is Result.REPLIED
    assert fake_twilio.sent() == ["You said: Hello"]
    assert len(fake_openai.asked) == 1


def test_list_that_lags_behind_is_waited_for(vendors: Vendors, tmp_path: Path, fake_twilio: FakeTwilio) -> None:
    fake_twilio.list_lag = 0.6
    fake_twilio.plan("Messages", method="POST", times=1, accept=True, cut=True)
    flags = {("twilio", "attempts"): 2, ("twilio", "lookup_wait_seconds"): 20}
    with install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)

        assert answer(core, "Hello").result is Result.REPLIED

    assert fake_twilio.sent() == ["You said: Hello"]


def test_same_words_that_were_said_before_are_not_taken_for_the_part_that_is_missing(
    vendors: Vendors, tmp_path: Path, fake_twilio: FakeTwilio, fake_openai: FakeOpenAI
) -> None:
    fake_openai.reply = lambda _: "Yes."
    with install(vendors, flags={("twilio", "attempts"): 2}, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        answer(core, "Open today?")
        fake_twilio.plan("Messages", method="POST", times=1, cut=True)

        answer(core, "And tomorrow?")

    assert fake_twilio.sent() == ["Yes.", "Yes."]


def test_reply_that_can_never_be_looked_for_is_a_dead_letter_that_says_so(
    site: Core, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    add_business(site)
    fake_twilio.plan("Messages", method="POST", times=1, accept=True, cut=True)
    fake_twilio.plan("Messages", method="GET", times=99, response=refusal(20003, status=401))
    accepted = take_in(site, "Hello")
    work(site, accepted.conversation_id)
    make_due(site)

    work(site, accepted.conversation_id)

    assert len(fake_twilio.seen("Messages", "POST")) == 1
    assert parts(site, accepted) == [("unknown", "20003")]
    (told,) = failures(site)
    assert (told["state"], told["reason"]) == ("unknown", "20003")
    alert = slack_shows(site, fake_slack)[-1]
    assert "It is not known whether the reply was delivered: " in alert
    assert "not delivered" not in alert, "somebody would send it again"
    assert "You said: Hello" in alert


def test_reply_that_twilio_took_while_the_database_was_away_for_a_moment_is_sent(
    any_site: Core, fake_twilio: FakeTwilio, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_business(any_site)
    accepted = take_in(any_site, "Hello")
    away_for_a_moment(monkeypatch, "chatbotctl.core.flow.send_part.outbox.sent")

    work(any_site, accepted.conversation_id)

    assert outcome(any_site, accepted).result is Result.REPLIED
    assert parts(any_site, accepted) == [("sent", None)]
    assert fake_twilio.sent() == ["You said: Hello"]


def test_worker_waits_no_longer_than_its_lease_for_the_database(
    vendors: Vendors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with install(vendors, flags={("worker", "lease_seconds"): 1}, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        accepted = take_in(core, "Hello")
        away_for_a_moment(monkeypatch, "chatbotctl.core.flow.send_part.outbox.sent", times=10_000)

        with pytest.raises(StorageUnavailable):
            work(core, accepted.conversation_id)

        assert parts(core, accepted) == [("sending", None)]


def test_turn_whose_last_commit_was_made_without_our_hearing_it_ends_once(
    any_site: Core, fake_slack: FakeSlack, fake_twilio: FakeTwilio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last part, its end and what Slack is owed stand in one commit, which is tried again."""
    add_business(any_site)
    accepted = take_in(any_site, "Hello")
    write = any_site.database.write
    unheard: list[bool] = []

    @contextlib.contextmanager
    def commits_unheard(*, durable: bool = True) -> Iterator[Connection]:
        with write(durable=durable) as tx:
            yield tx
            has_ended = tx.scalar(select(tables.turns.c.finished_at)) is not None
        if has_ended and not unheard:
            unheard.append(True)
            raise StorageUnavailable

    monkeypatch.setattr(any_site.database, "write", commits_unheard)
    work(any_site, accepted.conversation_id)

    assert unheard
    assert outcome(any_site, accepted).result is Result.REPLIED
    assert fake_twilio.sent() == ["You said: Hello"]
    assert sum("You said: Hello" in line for line in slack_shows(any_site, fake_slack)) == 1


@pytest.mark.parametrize("fault", [KeyError, UnreadableRow])
def test_part_that_left_is_known_to_have_left_although_its_turn_cannot_be_ended(
    any_site: Core, fake_twilio: FakeTwilio, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    """At each attempt to end the turn it would be looked for, until Twilio's list does not reach back to it."""
    add_business(any_site)
    accepted = take_in(any_site, "Hello")

    def broken(*_: object) -> None:
        raise fault

    with monkeypatch.context() as broken_code:
        broken_code.setattr("chatbotctl.core.flow.mirror_to_slack.owe_reply", broken)
        assert work(any_site, accepted.conversation_id) is not None, "it is put off"
        assert parts(any_site, accepted) == [("sent", None)]
        assert events_sent(any_site) == [False]

    make_due(any_site)
    work(any_site, accepted.conversation_id)
    assert outcome(any_site, accepted).result is Result.REPLIED
    assert len(fake_twilio.sent()) == 1
    assert not [request for request in fake_twilio.requests if request.method == "GET"], "there is nothing to look for"


def test_what_a_late_worker_sent_is_written_down_although_its_heir_gave_the_turn_up(
    any_site: Core, fake_twilio: FakeTwilio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the one could not reach the database, the other ended the turn, not knowing whether the part had left."""
    add_business(any_site)
    accepted = take_in(any_site, "Hello")
    sent, write = outbox.sent, any_site.database.write
    heirs: list[Turn] = []

    def away_at_first(*args: Any) -> None:
        if not heirs:
            raise StorageUnavailable
        sent(*args)

    @contextlib.contextmanager
    def seen_by_the_heir(*, durable: bool = True) -> Iterator[Connection]:
        try:
            with write(durable=durable) as tx:
                yield tx
        except StorageUnavailable:
            expire_lease(any_site)
            heirs.append(store.open_turn(any_site.database, accepted.conversation_id, owner="heir"))
            settle(any_site.services, heirs[0], Delivery(Sending.FAILED, Failure(code="send_failed", message="Why.")))
            assert parts(any_site, accepted) == [("unknown", None)]
            raise

    monkeypatch.setattr("chatbotctl.core.flow.send_part.outbox.sent", away_at_first)
    monkeypatch.setattr(any_site.database, "write", seen_by_the_heir)
    work(any_site, accepted.conversation_id)

    assert parts(any_site, accepted) == [("sent", None)]
    assert outcome(any_site, accepted).result is Result.FAILED, "its end is the heir's"
    assert fake_twilio.sent() == ["You said: Hello"]


@pytest.mark.parametrize(
    ("point", "got_through"), [("answered", False), ("sending", False), ("sent_not_recorded", True)]
)
def test_part_that_was_leaving_when_its_worker_died_is_looked_for(
    any_site: Core, fake_twilio: FakeTwilio, point: str, got_through: bool
) -> None:
    add_business(any_site)
    accepted = take_in(any_site, "Hello")
    with failpoints.armed(f"{point}:raise"), pytest.raises(failpoints.FailPointReached):
        work(any_site, accepted.conversation_id)
    assert parts(any_site, accepted) == [("sending", None)]

    expire_lease(any_site)
    work(any_site, accepted.conversation_id, owner="heir")

    assert fake_twilio.sent() == ["You said: Hello"]
    assert bool(fake_twilio.seen("Messages", "GET"))
    assert events_sent(any_site) == [got_through]
    assert parts(any_site, accepted) == [("sent", None)]
    assert outcome(any_site, accepted).result is Result.REPLIED


@pytest.mark.parametrize("got_through", [True, False])
def test_part_that_was_leaving_when_its_worker_died_is_not_sent_after_a_reset(
    site: Core, fake_twilio: FakeTwilio, got_through: bool
) -> None:
    add_business(site)
    accepted = take_in(site, "Hello")
    point = "sent_not_recorded" if got_through else "sending"
    with failpoints.armed(f"{point}:raise"), pytest.raises(failpoints.FailPointReached):
        work(site, accepted.conversation_id)
    with site.database.write() as tx:
        conversations.reset(tx, conversations.get(tx, accepted.conversation_id))

    expire_lease(site)
    work(site, accepted.conversation_id, owner="heir")

    assert fake_twilio.sent() == (["You said: Hello"] if got_through else [])
    assert [state for state, _ in parts(site, accepted)] == ["sent" if got_through else "withdrawn"]


def test_reply_of_three_parts_goes_on_at_the_part_that_is_missing(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(any_site)
    fake_openai.reply = lambda _: LONG
    accepted = take_in(any_site)
    with failpoints.armed("sent_not_recorded@2:raise"), pytest.raises(failpoints.FailPointReached):
        work(any_site, accepted.conversation_id)
    assert len(fake_twilio.sent()) == 2

    expire_lease(any_site)
    work(any_site, accepted.conversation_id, owner="heir")

    assert " ".join(" ".join(fake_twilio.sent()).split()) == " ".join(LONG.split())
    assert len(fake_openai.asked) == 1


def test_worker_that_was_frozen_between_its_last_commit_and_the_sending_does_not_send(
    vendors: Vendors, tmp_path: Path, fake_twilio: FakeTwilio
) -> None:
    with install(vendors, flags={("worker", "lease_seconds"): 1}, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        accepted = take_in(core, "Hello")

        with failpoints.armed("sending:sleep=1.1"):
            assert work_once(core.services, accepted.conversation_id, owner="frozen") is None
        assert fake_twilio.sent() == []

        work(core, accepted.conversation_id, owner="heir")
    assert fake_twilio.sent() == ["You said: Hello"]


def test_frozen_worker_leaves_a_part_to_its_heir(any_site: Core, fake_twilio: FakeTwilio) -> None:
    add_business(any_site)
    accepted = take_in(any_site, "Hello")
    whole = fake_twilio.handle

    def freeze(_: object) -> object:
        fake_twilio.handle = whole  # type: ignore[method-assign]
        expire_lease(any_site)
        work(any_site, accepted.conversation_id, owner="heir")
        return refusal(20429, status=429)

    fake_twilio.handle = freeze  # type: ignore[method-assign,assignment]

    assert work_once(any_site.services, accepted.conversation_id, owner="frozen") is None

    assert fake_twilio.sent() == ["You said: Hello"]
    assert parts(any_site, accepted) == [("sent", None)]
    assert outcome(any_site, accepted).result is Result.REPLIED


# overtaken


def test_reset_while_the_model_thinks_withdraws_the_reply(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    add_business(any_site)
    answer(any_site, "Remember the number 7.")

    def reply(text: str) -> str:
        with any_site.database.write() as tx:
            conversations.reset(tx, conversations.get(tx, 1))
        return f"You said: {text}"

    fake_openai.reply = reply
    accepted = take_in(any_site, "Which number?")
    work(any_site, accepted.conversation_id)

    assert parts(any_site, accepted) == [("withdrawn", None)]
    assert outcome(any_site, accepted).result is Result.WITHDRAWN
    assert len(fake_twilio.sent()) == 1
    shown = slack_shows(any_site, fake_slack)
    assert len(shown) == 4
    assert f"{mirror_to_slack.WITHDRAWN}\nYou said: Which number?" in shown[-1]
    fake_openai.reply = lambda text: f"You said: {text}"
    answer(any_site, "Hello again")
    assert fake_openai.asked[-1].history == ()


def test_reset_while_a_thread_is_made_leaves_no_thread_that_knows_the_past(site: Core, fake_openai: FakeOpenAI) -> None:
    add_business(site)
    answer(site, "Remember the number 7.")
    fake_openai.forget()

    def reset_in_between(text: str) -> str:
        """The provider has forgotten: a new thread, seeded with the past, is asked here."""
        with site.database.write() as tx:
            conversations.reset(tx, conversations.get(tx, 1))
        return text

    handle = fake_openai.handle

    def create(request: object) -> object:
        if getattr(request, "path", "") == "/v1/conversations":
            reset_in_between("")
        return handle(request)  # type: ignore[arg-type]

    fake_openai.handle = create  # type: ignore[method-assign,assignment]
    work(site, take_in(site, "Which number?").conversation_id)
    fake_openai.handle = handle  # type: ignore[method-assign]

    answer(site, "Hello again")

    assert fake_openai.asked[-1].history == ()


def test_business_disabled_while_the_model_thinks_sends_nothing(
    site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    bakery = add_business(site)

    def reply(text: str) -> str:
        with site.database.write() as tx:
            businesses.set_disabled(tx, bakery, True, "now")
        return text

    fake_openai.reply = reply
    accepted = take_in(site)
    work(site, accepted.conversation_id)

    assert fake_twilio.sent() == []
    assert parts(site, accepted) == [("withdrawn", None)]
    assert outcome(site, accepted).result is Result.WITHDRAWN


def test_reset_between_two_parts_withdraws_the_rest(
    site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(site)
    fake_openai.reply = lambda _: LONG
    handle = fake_twilio.handle

    def send_then_reset(request: object) -> object:
        answered = handle(request)  # type: ignore[arg-type]
        with site.database.write() as tx:
            conversations.reset(tx, conversations.get(tx, 1))
        return answered

    fake_twilio.handle = send_then_reset  # type: ignore[method-assign,assignment]
    accepted = take_in(site)
    work(site, accepted.conversation_id)

    assert [state for state, _ in parts(site, accepted)] == ["sent", "withdrawn", "withdrawn"]


# nothing simulated leaves


def test_simulated_message_is_printed_and_never_sent(vendors: Vendors, tmp_path: Path, fake_twilio: FakeTwilio) -> None:
    printed: list[str] = []
    with install(vendors, database_url=sqlite_database(tmp_path), print_unsent=printed.append) as core:
        add_business(core)

        assert answer(core, "Hello", simulated=True).result is Result.REPLIED

    assert printed == [f"-> {CUSTOMER}: You said: Hello"]
    assert fake_twilio.requests == []


def test_frozen_worker_that_writes_down_late_what_it_sent_does_not_withdraw_the_rest(
    any_site: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    add_business(any_site)
    fake_openai.reply = lambda _: LONG
    accepted = take_in(any_site)
    whole = fake_twilio.handle
    frozen, thaw = threading.Event(), threading.Event()

    def handle(request: Request) -> Response:
        if request.method == "GET":  # the heir looks for the part
            thaw.set()
            eventually(lambda: parts(any_site, accepted)[0] == ("sent", None))
        response = whole(request)
        if request.method == "POST" and not frozen.is_set():
            frozen.set()
            thaw.wait(20)
        return response

    fake_twilio.handle = handle  # type: ignore[method-assign]
    first = threading.Thread(target=lambda: work_once(any_site.services, accepted.conversation_id, owner="frozen"))
    first.start()
    frozen.wait(20)
    expire_lease(any_site)
    work(any_site, accepted.conversation_id, owner="heir")
    first.join()

    assert outcome(any_site, accepted).result is Result.REPLIED
    assert " ".join(" ".join(fake_twilio.sent()).split()) == " ".join(LONG.split())


class BrokenMessenger:
    """Breaks in a way that nobody foresaw."""

    def send(self, *, sender: str, recipient: str, body: str) -> SentMessage:
        raise RuntimeError(f"{body} to {recipient} from {sender}")

    def find(self, *, sender: str, recipient: str, body: str, since: float) -> list[SentMessage]:
        return []


def test_part_whose_sending_breaks_again_and_again_ends_as_one_that_nobody_knows_of(
    vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack
) -> None:
    with install(vendors, flags={("worker", "attempts"): 2}, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        object.__setattr__(core.services, "messenger_of", lambda _: BrokenMessenger())
        accepted = take_in(core, "Hello")
        for _ in range(2):
            make_due(core)
            work(core, accepted.conversation_id)

        assert outcome(core, accepted).result is Result.FAILED
        assert parts(core, accepted) == [("unknown", None)]
        alert = slack_shows(core, fake_slack)[-1]
    assert "It is not known whether the reply was delivered: " in alert
    assert "You said: Hello" in alert
