"""Redis, Slack and Google down or hung: the customer's reply leaves all the same and waits for none of them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatbotctl.core.config import Key
from chatbotctl.core.flow.pipeline import receive
from chatbotctl.core.records.message import Result
from tests.fakes.google_server import FakeGoogleTranslate
from tests.fakes.loopback import Request, Response
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import Vendors, add_business, eventually, install, message, running, sqlite_database


@contextlib.contextmanager
def nobody(kind: str) -> Iterator[int]:
    """The port of a service that is down (nothing listens) or hung (it takes connections and never says a word)."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if kind == "hung":
            server.listen(128)
        yield server.getsockname()[1]


def settings_of(service: str, port: int) -> dict[Key, object]:
    return {
        "redis": {("redis", "url"): f"redis://127.0.0.1:{port}/0"},
        "slack": {("slack", "api_base_url"): f"http://127.0.0.1:{port}/api/", ("slack", "timeout_seconds"): 0.5},
        "google": {
            ("translate", "enabled"): True,
            ("translate", "assistant"): True,
            ("translate", "endpoint"): f"http://127.0.0.1:{port}",
            ("translate", "timeout_seconds"): 0.5,
        },
    }[service]


@pytest.mark.parametrize("kind", ["down", "hung"])
@pytest.mark.parametrize("service", ["redis", "slack", "google"])
def test_replies_leave_without_it(
    vendors: Vendors, tmp_path: Path, fake_twilio: FakeTwilio, service: str, kind: str
) -> None:
    with nobody(kind) as port:
        flags = settings_of(service, port)
        with install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core:
            add_business(core, language="en")
            with running(core, slack=True):
                for body in ("one", "two", "three"):
                    became = receive(core.services, message(body), wait_seconds=20)
                    assert became.result is Result.REPLIED

    assert fake_twilio.sent() == ["You said: one", "You said: two", "You said: three"]


def test_slow_slack_has_not_even_the_question_when_the_customer_has_the_answer(
    vendors: Vendors, tmp_path: Path, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    let_go = threading.Event()
    handle = fake_slack.handle

    def slow(request: Request) -> Response:
        let_go.wait(20)
        return handle(request)

    fake_slack.handle = slow  # type: ignore[method-assign]
    flags = {("slack", "channel_name_template"): "c-{customer}"}
    with install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        with running(core, slack=True):
            for body in ("one", "two"):
                assert receive(core.services, message(body), wait_seconds=20).result is Result.REPLIED
            assert len(fake_twilio.sent()) == 2
            assert fake_slack.channels == {}
            let_go.set()
            eventually(lambda: fake_slack.channels and len(next(iter(fake_slack.channels.values())).messages) == 4)


def test_slow_google_is_asked_for_slack_only_after_the_reply_has_left(
    fake_openai: FakeOpenAI,
    fake_twilio: FakeTwilio,
    fake_slack: FakeSlack,
    fake_google: FakeGoogleTranslate,
    tmp_path: Path,
) -> None:
    """Without translate.assistant translation is for the people in Slack alone."""
    vendors = Vendors(openai=fake_openai, twilio=fake_twilio, slack=fake_slack, google=fake_google)
    fake_google.plan(times=99, delay=1)
    with install(vendors, database_url=sqlite_database(tmp_path)) as core:
        add_business(core, language="en")
        with running(core):
            assert receive(core.services, message("Olá"), wait_seconds=20).result is Result.REPLIED

    assert fake_twilio.sent() == ["You said: Olá"]
    assert fake_google.requests == []


def test_redis_that_comes_back_is_filled_again(
    vendors: Vendors, tmp_path: Path, redis_url: str, fake_openai: FakeOpenAI
) -> None:
    import redis

    with install(vendors, redis_url=redis_url, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        with running(core), redis.Redis.from_url(redis_url, decode_responses=True) as operator:
            receive(core.services, message("one"), wait_seconds=20)
            (key,) = operator.keys("*")
            before = operator.hgetall(key)
            operator.flushdb()

            receive(core.services, message("two"), wait_seconds=20)

            assert operator.hgetall(key) == before
    assert key == "whatsapp:+15552220000_whatsapp:+15550001111"
    assert before == {
        "from": "whatsapp:+15552220000",
        "to": "whatsapp:+15550001111",
        "thread_id": next(iter(fake_openai.conversations)),
    }
