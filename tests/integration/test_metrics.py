"""`/metrics` on an address of its own: what Prometheus reads of a process at work, and what it never finds there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from structlog.testing import capture_logs

from chatbotctl.core.config import Key
from chatbotctl.core.errors import ConfigurationError, ConflictError
from chatbotctl.core.flow.accept import accept
from chatbotctl.core.metrics import FIGURES
from chatbotctl.core.wiring import Core
from chatbotctl.server.metrics_listener import MetricsListener
from chatbotctl.server.run import WebhookServer
from tests import services
from tests.fakes.loopback import Response
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import FakeTwilio
from tests.installs import (
    Vendors,
    add_business,
    answer,
    eventually,
    install,
    message,
    post_to_slack,
    sqlite_database,
    take_in,
    work,
)
from tests.integration.webhook_site import PUBLIC, pairs, post_to, served

ON: dict[Key, object] = {**PUBLIC, ("metrics", "port"): 0, ("slack", "channel_name_template"): "c-{customer}"}


@pytest.fixture
def core(vendors: Vendors, tmp_path: Path) -> Iterator[Core]:
    """An install that serves its metrics, with a bakery in it."""
    flags = {**ON, ("openai", "attempts"): 2, ("twilio", "attempts"): 2}
    with install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core:
        add_business(core)
        yield core


@contextmanager
def listening(core: Core) -> Iterator[str]:
    """The metrics alone, as a process without a webhook has them; their URL."""
    listener = MetricsListener(core, core.make_vitals())
    listener.start()
    try:
        assert listener.url is not None
        yield listener.url
    finally:
        listener.close()


def get(url: str | None, path: str = "/metrics") -> requests.Response:
    return requests.get(f"{url}{path}", timeout=30)


def samples(url: str | None) -> dict[str, float]:
    """Each sample, by its name and labels as they stand on the page."""
    response = get(url)
    assert response.status_code == 200
    lines = [line.rpartition(" ") for line in response.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


# what is told


def test_a_message_is_followed_from_webhook_to_slack(core: Core, fake_slack: FakeSlack) -> None:
    with served(core) as server:
        fields = pairs("Hello")
        for _ in range(2):
            assert post_to(server.url, fields).status_code == 200
        post_to(server.url, pairs("Hello", To="whatsapp:+15559998877"))
        eventually(lambda: [len(channel.messages) for channel in fake_slack.channels.values()] == [2])
        eventually(lambda: samples(server.metrics.url)['chatbotctl_slack_posts_total{outcome="posted"}'] == 2)
        found = samples(server.metrics.url)

    for name, value in {
        'messages_total{business="bakery",result="stored"}': 1,
        'messages_total{business="bakery",result="duplicate"}': 1,
        'messages_total{business="",result="business_not_found"}': 1,
        'webhook_answers_total{status="200"}': 2,
        'webhook_answers_total{status="500"}': 1,
        'turns_total{business="bakery",code="",state="done"}': 1,
        'assistant_seconds_count{backend="openai",outcome="ok"}': 1,
        'send_seconds_count{outcome="ok"}': 1,
        'cache_lookups_total{result="miss"}': 1,
        'retries_total{service="assistant"}': 0,
        "turns_in_flight": 0,
        "worker_paused": 0,
        "database_up": 1,
        "queue_depth": 0,
    }.items():
        assert (name, found[f"chatbotctl_{name}"]) == (name, value)


def test_what_goes_wrong_is_counted_by_what_it_was(
    core: Core, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio, fake_slack: FakeSlack
) -> None:
    add_business(core, "garage", "whatsapp:+15550002222", is_disabled=True)
    fake_openai.plan("/v1/responses", times=2, response=Response(500, {"error": {"message": "x"}}))
    fake_slack.plan("chat.postMessage", response=Response(200, {"ok": False, "error": "invalid_blocks"}))
    with listening(core) as url:
        dead = answer(core, "Hello")  # two attempts in vain, and an apology
        fake_twilio.plan(response=Response(429, {"code": 20429, "message": "x", "status": 429}))
        answer(core, "Hello again", sender="whatsapp:+15552220001")
        with pytest.raises(Exception, match="disabled"):
            accept(core.services, message(receiver="whatsapp:+15550002222"))
        post_to_slack(core, dead.conversation_id)
        found = samples(url)

    for name, value in {
        'messages_total{business="garage",result="business_disabled"}': 1,
        'turns_total{business="bakery",code="assistant_failed",state="dead"}': 1,
        'turns_total{business="bakery",code="",state="done"}': 1,
        'assistant_seconds_count{backend="openai",outcome="unknown"}': 2,
        'send_seconds_count{outcome="failed"}': 1,
        'send_seconds_count{outcome="ok"}': 2,
        'retries_total{service="assistant"}': 1,
        'retries_total{service="whatsapp"}': 1,
        'slack_posts_total{outcome="dead"}': 1,
        'dead_letters{kind="turn"}': 1,
        'dead_letters{kind="slack"}': 1,
    }.items():
        assert (name, found[f"chatbotctl_{name}"]) == (name, value)


def test_a_turn_that_is_put_off_counts_as_a_retry(core: Core, fake_twilio: FakeTwilio) -> None:
    fake_twilio.plan(times=2, response=Response(429, {"code": 20429, "message": "x", "status": 429}))
    with listening(core) as url:
        answer(core, "Hello")
        found = samples(url)
    assert found['chatbotctl_retries_total{service="turn"}'] == 1
    assert 'chatbotctl_turns_total{business="bakery",code="",state="done"}' not in found


def test_the_cache_tells_hits_misses_and_when_redis_is_away(vendors: Vendors, tmp_path: Path, redis_url: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"redis://127.0.0.1:{nobody.getsockname()[1]}/0"
        for url, expected in ((redis_url, (1, 1, 0)), (away, (0, 0, 2)), (None, (1, 1, 0))):
            with install(vendors, flags=ON, redis_url=url, database_url=sqlite_database(tmp_path)) as core:
                add_business(core)
                with listening(core) as page:
                    answer(core, "one")
                    answer(core, "two")
                    found = samples(page)
            results = ("hit", "miss", "unreachable")
            counted = tuple(found[f'chatbotctl_cache_lookups_total{{result="{result}"}}'] for result in results)
            assert (url, counted) == (url, expected)


def test_what_waits_is_told(core: Core) -> None:
    with listening(core) as url:
        for number in range(3):
            take_in(core, sender=f"whatsapp:+1555222000{number}")
        found = samples(url)
    assert found["chatbotctl_queue_depth"] == 3
    assert 0 <= found["chatbotctl_queue_oldest_seconds"] < 60
    assert found["chatbotctl_slack_owed"] == 3
    assert 0 <= found["chatbotctl_slack_oldest_seconds"] < 60


def test_the_page_shows_what_is_documented_and_nothing_else(core: Core) -> None:
    with served(core) as server:
        page = get(server.metrics.url).text
    kinds = dict(line.split()[2:4] for line in page.splitlines() if line.startswith("# TYPE"))
    ours = {name: kind for name, kind in kinds.items() if name.startswith("chatbotctl_")}
    assert ours == {figure.name: figure.kind for figure in FIGURES}
    assert all(name.startswith(("chatbotctl_", "process_")) for name in kinds)


def test_neither_customers_nor_their_words_nor_secrets_are_on_the_page(core: Core, fake_openai: FakeOpenAI) -> None:
    fake_openai.plan(
        "/v1/responses", times=2, response=Response(500, {"error": {"message": "canary", "code": "canary"}})
    )
    with listening(core) as url:
        became = answer(core, "canary-words", sid="SMcanary", profile_name="canary-name")
        post_to_slack(core, became.conversation_id)
        page = get(url).text
    assert 'business="bakery"' in page
    for secret in ("canary", "5552220000", "5550001111", "sk-test", "xoxb-test", "twilio-token"):
        assert secret not in page


# when the database is away


def test_a_scrape_succeeds_while_the_database_is_away(
    vendors: Vendors, postgres_url: str, postgres_server: str
) -> None:
    with install(vendors, flags=ON, database_url=postgres_url) as core, listening(core) as url:
        core.services.metrics.message("bakery", "stored")
        core.database.close()
        with services.administrator(postgres_server) as cursor:
            cursor.execute(f'ALTER DATABASE "{core.database.url.database}" ALLOW_CONNECTIONS false')
        found = samples(url)
        assert found["chatbotctl_database_up"] == 0
        assert "chatbotctl_queue_depth" not in found, "nobody knows"
        assert found['chatbotctl_messages_total{business="bakery",result="stored"}'] == 1
        assert (get(url, "/readyz").status_code, get(url, "/healthz").status_code) == (503, 200)
        with services.administrator(postgres_server) as cursor:
            cursor.execute(f'ALTER DATABASE "{core.database.url.database}" ALLOW_CONNECTIONS true')
        assert samples(url)["chatbotctl_database_up"] == 1
        assert get(url, "/readyz").status_code == 200


# where it is told


def test_a_supervisor_asks_a_process_without_a_webhook_there(core: Core) -> None:
    with listening(core) as url:
        assert get(url, "/healthz").json() == {"status": "ok"}
        assert get(url, "/readyz").json()["status"] == "ready"
        for path in ("/", "/whatsapp"):
            assert (get(url, path).status_code, get(url, path).json()["code"]) == (404, "not_found")
        assert requests.post(f"{url}/metrics", timeout=30).status_code == 405


def test_the_webhooks_address_has_no_metrics(core: Core) -> None:
    with served(core) as server:
        assert get(server.url).status_code == 404


def test_without_a_port_there_are_none_and_nothing_is_kept(vendors: Vendors, tmp_path: Path) -> None:
    with install(vendors, flags=PUBLIC, database_url=sqlite_database(tmp_path)) as core:
        with served(core) as server:
            assert server.metrics.url is None
        core.services.metrics.message("bakery", "stored")
        core.services.metrics.keep()
        page, _ = core.services.metrics.page("", ())
    assert b"bakery" not in page


def test_a_port_in_use_is_a_conflict_that_names_the_setting(vendors: Vendors, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        flags = {**ON, ("metrics", "port"): taken.getsockname()[1]}
        with (
            install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core,
            pytest.raises(ConflictError, match="is in use") as refused,
        ):
            WebhookServer(core, host="127.0.0.1", port=0)
    assert "metrics.port" in (refused.value.hint or "")


def test_the_webhooks_port_is_not_shared(vendors: Vendors, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (
        install(vendors, flags={**ON, ("metrics", "port"): port}, database_url=sqlite_database(tmp_path)) as core,
        pytest.raises(ConflictError, match="is in use") as refused,
    ):
        WebhookServer(core, host="127.0.0.1", port=port)
    assert "metrics.port" in (refused.value.hint or "")


def test_a_host_that_is_not_this_machine_is_a_configuration_error(vendors: Vendors, tmp_path: Path) -> None:
    flags = {**ON, ("metrics", "host"): "203.0.113.5"}
    with (
        install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core,
        pytest.raises(ConfigurationError) as refused,
    ):
        WebhookServer(core, host="127.0.0.1", port=0)
    assert "metrics.host" in (refused.value.hint or "")


@pytest.mark.parametrize(("host", "warnings"), [("0.0.0.0", 1), ("127.0.0.1", 0)])
def test_an_address_that_others_reach_is_warned_of_once(
    vendors: Vendors, tmp_path: Path, host: str, warnings: int
) -> None:
    flags = {**ON, ("metrics", "host"): host}
    with (
        install(vendors, flags=flags, database_url=sqlite_database(tmp_path)) as core,
        capture_logs() as logs,
        served(core) as server,
    ):
        url = (server.metrics.url or "").replace("0.0.0.0", "127.0.0.1")
        assert get(url).status_code == get(url).status_code == 200
    warned = [log for log in logs if log["event"] == "metrics_not_on_loopback"]
    assert [log["log_level"] for log in warned] == ["warning"] * warnings


def test_readiness_ends_with_the_drain_and_the_metrics_go_on_until_its_end(core: Core, fake_openai: FakeOpenAI) -> None:
    fake_openai.thinking = 1.5
    with served(core) as server:
        taken = take_in(core)
        eventually(lambda: fake_openai.asked)
        server.stop()
        eventually(lambda: get(server.metrics.url, "/readyz").status_code == 503)
        assert get(server.metrics.url, "/readyz").json()["code"] == "draining"
        assert samples(server.metrics.url)["chatbotctl_turns_in_flight"] == 1
    with pytest.raises(requests.ConnectionError):
        get(server.metrics.url)
    assert work(core, taken.conversation_id) is None
