"""`business remove`: it asks, it says what goes, and nothing of the business is left anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from tests import installs
from tests.cli import chatbotctl
from tests.fakes.loopback import Response
from tests.fakes.openai_server import FakeOpenAI
from tests.unit.commands import business_site as site


@pytest.fixture(autouse=True)
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake_openai: FakeOpenAI) -> None:
    site.set_up(monkeypatch, tmp_path, fake_openai)


def _with_knowledge() -> None:
    site.add("luna", "--backend", "openai")
    Path("faq.md").write_text("Nine to five.")
    assert chatbotctl("business", "knowledge", "add", "luna", "faq.md").code == 0


def _names() -> list[str]:
    return [business["name"] for business in chatbotctl("business", "list", "--json").json]


def test_nothing_is_removed_where_nobody_can_be_asked() -> None:
    site.add("luna")
    run = chatbotctl("business", "remove", "luna", stdin="y\n")
    assert run.code == 7
    assert "--yes" in run.err
    assert _names() == ["luna"]


def test_dry_run_says_what_would_go_and_changes_nothing(fake_openai: FakeOpenAI) -> None:
    _with_knowledge()
    chatbotctl("business", "credentials", "set", "luna", "slack", stdin="xoxb-1\n")
    with site.core() as core:
        installs.answer(core, "Hello")
    run = chatbotctl("business", "remove", "luna", "--dry-run")
    assert run.code == 0
    assert (
        "Would remove luna (whatsapp:+15550001111): 1 thread with all messages, "
        "1 knowledge file (1 also at the AI provider), credentials for slack." in run.err
    )
    assert _names() == ["luna"]
    assert len(fake_openai.vector_stores.files) == 1


def test_business_goes_with_its_threads_and_its_copies_at_the_provider(fake_openai: FakeOpenAI) -> None:
    _with_knowledge()
    site.add("nova", number="+15550002222")
    with site.core() as core:
        installs.answer(core, "Hello")
        installs.answer(core, "Hello", sender="whatsapp:+15552220001")
        installs.answer(core, "Hello", receiver="whatsapp:+15550002222")
    run = chatbotctl("business", "remove", "luna", "--yes")
    assert run.code == 0
    assert "Removed luna with 2 threads." in run.err
    assert _names() == ["nova"]
    assert fake_openai.vector_stores.files == {}
    assert site.show("nova")["threads"] == 1


def test_provider_that_is_down_keeps_the_business_unless_the_copies_may_stay(fake_openai: FakeOpenAI) -> None:
    _with_knowledge()
    fake_openai.plan("/files/", method="DELETE", times=9, response=Response(500, {}))
    run = chatbotctl("business", "remove", "luna", "--yes")
    assert run.code == 5
    assert "--keep-uploads" in run.err
    assert _names() == ["luna"]
    assert chatbotctl("business", "remove", "luna", "--yes", "--keep-uploads").code == 0
    assert _names() == []
    assert len(fake_openai.vector_stores.files) == 1


def test_threads_of_the_business_leave_the_shared_cache_and_others_stay(
    monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    site.add("luna")
    site.add("nova", number="+15550002222")
    with site.core() as core:
        installs.answer(core, "Hello")
        installs.answer(core, "Hello", receiver="whatsapp:+15550002222")
    with redis.Redis.from_url(redis_url) as client:
        assert len(client.keys("whatsapp:*")) == 2
        assert chatbotctl("business", "remove", "luna", "--yes").code == 0
        assert client.keys("whatsapp:*") == [f"{installs.CUSTOMER}_whatsapp:+15550002222".encode()]


def test_redis_that_is_down_is_told_after_the_business_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("luna")
    with site.core() as core:
        installs.answer(core, "Hello")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    run = chatbotctl("business", "remove", "luna", "--yes")
    assert run.code == 5
    assert "chatbotctl cache rebuild" in run.err
    assert _names() == []
