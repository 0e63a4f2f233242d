"""What the log tells: each event with the ids of the message, turn or post that it is about; nothing that was said."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from structlog.testing import capture_logs

from chatbotctl.core import log
from chatbotctl.core.config import Key
from chatbotctl.core.errors import StorageUnavailable
from chatbotctl.core.flow.simulate import simulate
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.wiring import Core
from chatbotctl.server.app import create_app
from tests.fakes.loopback import Response
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import ACCOUNT, TOKEN, FakeTwilio
from tests.installs import (
    Vendors,
    add_business,
    answer,
    eventually,
    install,
    message,
    running,
    sqlite_database,
    take_in,
    work,
)
from tests.integration.slack_site import deliver_next, make_due, slack_site
from tests.integration.webhook_site import PUBLIC, pairs, post, post_to, served

BUSY = Response(429, {"code": 20429, "message": "canary", "status": 429})


@pytest.fixture
def core(vendors: Vendors, tmp_path: Path) -> Iterator[Core]:
    flags: dict[Key, object] = {**PUBLIC, ("openai", "attempts"): 2}
    with install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        yield core


def told(logs: list[Any], *names: str) -> list[dict[str, Any]]:
    """The events of these names, each of which was logged."""
    found = [dict(entry) for entry in logs if entry["event"] in names]
    assert {entry["event"] for entry in found} == set(names)
    return found


def test_every_event_inside_a_turn_says_which_it_is(
    core: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> None:
    fake_openai.plan("/v1/responses", response=Response(500, {"error": {"message": "x"}}))
    fake_twilio.plan(response=BUSY)
    with capture_logs() as logs:
        became = answer(core, sid="SM1")
    for entry in told(logs, "ask_failed", "send_failed", "turn_postponed"):
        ids = {name: entry[name] for name in ("sids", "conversation", "business", "attempt")}
        assert ids == {"sids": ["SM1"], "conversation": became.conversation_id, "business": "bakery", "attempt": 1}
        assert entry["turn"] == 1


def test_a_burst_names_its_messages_and_a_turn_taken_up_again_its_attempt(
    vendors: Vendors, tmp_path: Path, fake_twilio: FakeTwilio
) -> None:
    fake_twilio.plan(response=BUSY)
    flags = {("worker", "quiet_seconds"): 0.01}
    with install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core, capture_logs() as logs:
        add_business(core)
        accepted = [take_in(core, sid=f"SM{number}") for number in (1, 2)]
        eventually(lambda: work(core, accepted[0].conversation_id) is not None)
        with core.database.write() as tx:
            tx.execute(tables.business_clients.update().values(ready_at=0))
        work(core, accepted[0].conversation_id)
    (ended,) = told(logs, "turn_ended")
    assert (ended["sids"], ended["attempt"], ended["state"]) == (["SM1", "SM2"], 2, "done")


def test_what_an_adapter_reports_says_whose_turn_it_was(vendors: Vendors, tmp_path: Path) -> None:
    with install(vendors, redis_url="redis://127.0.0.1:1/0", database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        with capture_logs() as logs:
            answer(core, sid="SM1")
    for entry in told(logs, "cache_unreachable"):
        assert (entry["sids"], entry["business"], entry["turn"]) == (["SM1"], "bakery", 1)


def test_a_fault_of_our_own_says_where(core: Core, fake_openai: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("canary")

    monkeypatch.setattr("chatbotctl.core.flow.pipeline.prepare_reply", broken)
    with capture_logs() as logs:
        answer(core, sid="SM1")
    (crashed,) = told(logs, "turn_crashed")
    assert (crashed["error"], crashed["sids"], crashed["business"]) == ("RuntimeError", ["SM1"], "bakery")


def test_a_webhooks_events_say_which_message_of_whom(core: Core) -> None:
    client = create_app(core).test_client()
    with capture_logs() as logs, running(core):
        for sid, to in (("SM1", "whatsapp:+15550001111"), ("SM1", "whatsapp:+15550001111"), ("SM2", "whatsapp:+1555")):
            post(client, pairs(MessageSid=sid, To=to))
        post(client, [("Body", "from nobody")])
    seen = told(logs, "message_stored", "message_duplicate", "webhook_answered")
    assert [(entry["event"], entry["sid"], entry["business"], entry["conversation"]) for entry in seen] == [
        ("message_stored", "SM1", "bakery", 1),
        ("webhook_answered", "SM1", "bakery", 1),
        ("message_duplicate", "SM1", "bakery", 1),
        ("webhook_answered", "SM1", "bakery", 1),
        ("webhook_answered", "SM2", None, None),
        ("webhook_answered", None, None, None),
    ]


def test_a_simulations_events_say_which_message_they_are_about(core: Core) -> None:
    with capture_logs() as logs:
        simulate(core.services, message(sid="sim-1", simulated=True), wait_seconds=20)
    (stored,) = told(logs, "message_stored")
    (ended,) = told(logs, "turn_ended")
    assert (stored["sid"], stored["business"], ended["sids"]) == ("sim-1", "bakery", ["sim-1"])


def test_a_posts_events_say_which_it_is(vendors: Vendors, tmp_path: Path, fake_slack: FakeSlack) -> None:
    fake_slack.plan("conversations.invite", response=Response(200, {"ok": False, "error": "user_disabled"}))
    fake_slack.plan("chat.postMessage", response=Response(503, {"ok": False, "error": "canary"}))
    fake_slack.plan("chat.postMessage", response=Response(200, {"ok": False, "error": "invalid_blocks"}))
    with slack_site(vendors, tmp_path) as core:
        add_business(core, slack_users=("U1",))
        taken = take_in(core)
        with capture_logs() as logs:
            for _ in range(2):
                make_due(core)
                deliver_next(core)
    ids = ("post", "conversation", "business", "attempt")
    seen = told(logs, "slack_invite_refused", "slack_postponed", "slack_dead_letter")
    assert [(entry["event"], *(entry[name] for name in ids)) for entry in seen] == [
        ("slack_invite_refused", 1, taken.conversation_id, "bakery", 1),
        ("slack_postponed", 1, taken.conversation_id, "bakery", 1),
        ("slack_dead_letter", 1, taken.conversation_id, "bakery", 2),
    ]


def unavailable(asked: list[str]) -> Callable[..., AbstractContextManager[Connection]]:
    """Transactions of a database that is away; the names of the threads that wanted one are added to `asked`."""

    @contextmanager
    def transaction(_: Database, *, durable: bool = True) -> Iterator[Connection]:
        asked.append(threading.current_thread().name)
        raise StorageUnavailable
        yield

    return transaction


def test_a_database_that_stays_away_is_told_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By each of those that go on asking it all the time."""
    asking = ("sweeper", "slack-poster", "heartbeat")
    asked: list[str] = []

    flags: dict[Key, object] = {("worker", "lease_seconds"): 1}
    with (
        install(flags=flags, database_url=sqlite_database(tmp_path)) as core,
        capture_logs() as logs,
        monkeypatch.context() as outage,
    ):
        outage.setattr(Database, "read", unavailable(asked))
        outage.setattr(Database, "write", unavailable(asked))
        outage.setattr("chatbotctl.core.flow.slack_poster.IDLE_SECONDS", 0.01)
        with running(core, slack=True):
            eventually(lambda: all(asked.count(name) > 2 for name in asking))
            assert len(told(logs, "storage_unavailable")) == len(asking)
            assert len(told(logs, "worker_paused")) == 1
            outage.undo()
            eventually(lambda: any(log["event"] == "worker_resumed" for log in logs))


def test_a_worker_stays_paused_while_the_database_can_only_be_read(
    core: Core, fake_openai: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, a server that takes no writes: what is due can be seen, and not be worked on."""
    take_in(core)
    tried: list[str] = []

    with capture_logs() as logs, monkeypatch.context() as outage:
        outage.setattr(Database, "write", unavailable(tried))
        with running(core):
            eventually(lambda: tried.count("sweeper") > 2)
            assert [log["event"] for log in logs if log["event"].startswith("worker_")] == ["worker_paused"]
            outage.undo()
            eventually(lambda: fake_openai.asked)


def test_nothing_of_one_turn_sticks_to_what_comes_after_it(core: Core) -> None:
    answer(core, sid="SM1")
    with capture_logs() as logs:
        log.event("serving")
        log.note(sid="SM1")
        log.event("serving")
    assert [set(entry) for entry in logs] == [{"event", "log_level"}] * 2


def test_nothing_that_was_said_and_no_secret_is_logged_whatever_fails(
    core: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    """Vendors quote customers, keys and numbers in their errors. The log is read as a pipe has it, at debug level."""
    quoted = f"canary-said by +15552220000 with sk-test, {TOKEN}, xoxb-test"
    add_business(core, "garage", "whatsapp:+15550002222")
    refused = Response(400, {"code": 21211, "message": quoted, "more_info": quoted, "status": 400})
    fake_openai.plan("/v1/responses", response=Response(500, {"error": {"message": quoted, "code": quoted}}))
    fake_twilio.plan("Messages", response=refused)
    fake_slack.plan("chat.postMessage", response=Response(500, {"ok": False, "error": quoted}))
    with redirect_stderr(io.StringIO()) as stderr:
        log.configure(level="debug", format="json")
        with served(core) as server:
            for body in ("canary-one", "canary-two"):
                for to in ("whatsapp:+15550001111", "whatsapp:+15550002222"):
                    post_to(server.url, pairs(body, To=to, ProfileName="canary-name"))
                fake_openai.plan(
                    "/v1/responses", response=Response(401, {"error": {"message": quoted, "type": quoted}})
                )
                fake_openai.plan("/v1/responses", cut=True)
            post_to(server.url, pairs("canary-three", To="whatsapp:+15559998877"))
            post_to(server.url, pairs("canary\0four"))
            eventually(lambda: len(fake_slack.seen("chat.postMessage")) >= 2)
    written = stderr.getvalue()
    told_of = {(event["event"], event.get("code")) for event in map(json.loads, written.splitlines())}
    assert told_of >= {
        ("message_stored", None),
        ("ask_failed", None),
        ("send_failed", None),
        ("slack_postponed", None),
        ("turn_ended", None),
        ("turn_ended", "send_failed"),
        ("turn_ended", "assistant_failed"),
        ("webhook_answered", "business_not_found"),
        ("webhook_answered", "unreadable_message"),
    }
    for secret in ("canary", "5552220000", "5550002222", "5559998877", "sk-test", TOKEN, "xoxb-test", ACCOUNT):
        assert secret not in written
