"""`business update`: what changes, what stays, and what a new number leaves behind nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from chatbotctl.core.storage import businesses
from tests import installs
from tests.cli import Run, chatbotctl
from tests.fakes.openai_server import FakeOpenAI
from tests.unit.commands import business_site as site


@pytest.fixture(autouse=True)
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site.set_up(monkeypatch, tmp_path)


def _update(*options: str, name: str = "luna") -> Run:
    return chatbotctl("business", "update", name, *options)


def test_only_what_is_given_changes() -> None:
    site.add("luna", "--language", "de", "--instructions", "You are Luna.", "--slack-user", "U1")
    before = site.show()
    run = _update("--model", "gpt-test", "--language", "fr")
    assert run.code == 0
    assert "Changed luna: model, language." in run.err
    assert site.show() == {**before, "model": "gpt-test", "language": "fr"}


def test_business_gets_another_name_and_number() -> None:
    site.add("luna")
    assert _update("--name", "nova", "--number", "+1 555 000 2222").code == 0
    assert site.show("nova")["number"] == "whatsapp:+15550002222"
    assert chatbotctl("business", "show", "luna").code == 3


def test_capitals_of_its_own_name_may_change() -> None:
    site.add("luna")
    assert _update("--name", "Luna").code == 0
    assert site.show("Luna")["number"] == site.NUMBER


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--name", "nova"], "already a business called 'nova'"),
        (["--name", "NOVA"], "already a business called 'nova'"),
        (["--number", "+15550002222"], "belongs to the business 'nova'"),
    ],
)
def test_what_another_business_has_is_a_conflict(options: list[str], words: str) -> None:
    site.add("luna")
    site.add("nova", number="+15550002222")
    run = _update(*options, "--model", "m")
    assert run.code == 6
    assert words in run.err
    assert site.show()["model"] is None


def test_lists_are_replaced_as_a_whole() -> None:
    site.add("luna", "--slack-user", "U1", "--slack-user", "U2", "--vector-store", "vs_1")
    _update("--slack-user", "U3", "--vector-store", "vs_2")
    shown = site.show()
    assert (shown["slack_users"], shown["vector_stores"]) == (["U3"], ["vs_2"])


_SET = {
    "model": ("gpt-test", "model", None),
    "base-url": ("https://ai.example/v1", "base_url", None),
    "instructions": ("You are Luna.", "instructions", ""),
    "assistant-id": ("asst_1", "assistant_id", None),
    "vector-store": ("vs_1", "vector_stores", []),
    "language": ("de", "language", None),
    "apology": ("", "apology", None),
    "max-message-chars": ("500", "max_message_chars", None),
    "slack-user": ("U1", "slack_users", []),
    "slack-layout": ("thread", "slack_layout", None),
}


@pytest.mark.parametrize("option", _SET)
def test_clear_takes_back_what_an_option_set(option: str) -> None:
    value, key, cleared = _SET[option]
    site.add("luna", f"--{option}", value)
    assert site.show()[key] != cleared
    run = _update("--clear", option)
    assert run.code == 0
    assert f"Changed luna: {option}." in run.err
    assert site.show()[key] == cleared


def test_clear_knows_every_option_it_could_be_about() -> None:
    run = _update("--clear", "nothing")
    assert run.code == 2
    assert all(option in run.err.replace("\n", "") for option in ("model", "apology"))


def test_set_and_clear_of_one_option_is_a_usage_error() -> None:
    site.add("luna", "--model", "gpt-test")
    run = _update("--model", "m", "--clear", "model")
    assert run.code == 2
    assert site.show()["model"] == "gpt-test"


def test_empty_value_is_no_way_to_clear_and_says_which_is() -> None:
    site.add("luna", "--model", "gpt-test")
    run = _update("--model", "")
    assert run.code == 7
    assert "--clear" in run.err
    assert site.show()["model"] == "gpt-test"


def test_update_of_nothing_is_a_usage_error() -> None:
    site.add("luna")
    assert _update().code == 2


def test_bad_value_changes_nothing() -> None:
    site.add("luna")
    before = site.show()
    assert _update("--model", "m", "--number", "555").code == 7
    assert site.show() == before


def test_local_history_is_refused_for_the_backend_that_the_business_has_or_gets() -> None:
    site.add("luna")
    assert _update("--history", "local").code == 7
    assert _update("--history", "local", "--backend", "openai").code == 0
    assert _update("--history", "local", "--backend", "chat").code == 7
    assert _update("--backend", "chat").code == 0
    assert _update("--history", "provider").code == 0


def test_json_is_the_business_as_show_has_it() -> None:
    site.add("luna")
    run = _update("--model", "m", "--json")
    assert run.json == site.show()


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        ("openai", "chatbotctl business knowledge sync luna"),
        ("chat", "The backend chat does not read its 1 knowledge files."),
    ],
)
def test_new_backend_says_what_it_means_for_the_files(backend: str, words: str) -> None:
    site.add("luna")
    Path("faq.md").write_text("Nine to five.")
    chatbotctl("business", "knowledge", "add", "luna", "faq.md")
    assert words in _update("--backend", backend).err


def test_new_backend_keeps_the_conversation_and_answers_in_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake_openai: FakeOpenAI
) -> None:
    site.set_up(monkeypatch, tmp_path, fake_openai)
    site.add("luna")
    first = chatbotctl("simulate", "--from", "+15557654321", "--body", "Hello", "--json").json
    assert _update("--backend", "openai").code == 0
    second = chatbotctl("simulate", "--from", "+15557654321", "--body", "Do you deliver?", "--json").json
    assert second["replies"] == ["You said: Do you deliver?"]
    assert second["thread_id"] != first["thread_id"]
    assert site.show()["threads"] == 1


def test_new_number_leaves_no_thread_for_the_next_business_that_gets_the_old_one(
    monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    site.add("luna")
    with site.core(quiet_seconds=0) as core:
        installs.answer(core, "Hello")
    with redis.Redis.from_url(redis_url) as client:
        client.hset("whatsapp:+1_whatsapp:+2", mapping={"from": "whatsapp:+1"})
        assert len(client.keys("whatsapp:*")) == 2
        assert _update("--model", "m").code == 0
        assert len(client.keys("whatsapp:*")) == 2
        assert _update("--number", "+15550002222").code == 0
        assert client.keys("whatsapp:*") == [b"whatsapp:+1_whatsapp:+2"]


def test_change_that_keeps_the_number_does_not_read_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(businesses, "cache_keys", lambda _, business: read.append(business.name) or [])
    site.add("luna")
    assert _update("--model", "m").code == 0
    assert _update("--number", site.NUMBER).code == 0
    assert read == []
    assert _update("--number", "+15550002222").code == 0
    assert read == ["luna"]


def test_new_number_while_redis_is_down_is_stored_and_says_what_is_left_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("luna")
    with site.core(quiet_seconds=0) as core:
        installs.answer(core, "Hello")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    run = _update("--number", "+15550002222")
    assert run.code == 5
    assert "The change is stored" in run.err
    assert "chatbotctl cache rebuild" in run.err
    assert site.show()["number"] == "whatsapp:+15550002222"
