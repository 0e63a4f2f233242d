"""`business add`: what is taken, what is refused in what words, and what a new business still lacks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli import Run, chatbotctl
from tests.unit.commands import business_site as site


@pytest.fixture(autouse=True)
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    site.set_up(monkeypatch, tmp_path)


def _add(*options: str, name: str = "luna", number: str = "+15550001111") -> Run:
    return chatbotctl("business", "add", name, "--number", number, *options)


def _stored() -> list[str]:
    return [business["name"] for business in chatbotctl("business", "list", "--json").json]


# what an operator without anything set up is told


def test_business_is_added_with_the_default_backend_and_the_next_step_is_said() -> None:
    run = _add()
    assert (run.code, run.out) == (0, "")
    assert "Added luna, whatsapp:+15550001111 (openai)." in run.err
    assert "luna cannot be answered for yet. This business has no model to ask." in run.err
    assert "chatbotctl business update luna --model" in run.err


def test_business_without_a_key_is_told_how_to_set_one() -> None:
    run = _add("--model", "gpt-test")
    assert run.code == 0
    assert "There is no API key" in run.err
    assert "chatbotctl business credentials set luna openai" in run.err


def test_threads_without_an_assistant_is_a_note_and_no_error() -> None:
    run = _add("--backend", "threads", "--base-url", "http://127.0.0.1:1/v1")
    assert run.code == 0
    assert "cannot be answered for yet" in run.err
    assert "assistant" in run.err


def test_offline_business_is_told_to_add_knowledge() -> None:
    run = _add("--backend", "knowledge")
    assert "chatbotctl business knowledge add luna PATH" in run.err
    assert "cannot be answered" not in run.err


def test_business_that_can_be_answered_for_needs_no_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    run = _add("--model", "gpt-test")
    assert run.err.splitlines() == ["Added luna, whatsapp:+15550001111 (openai)."]


def test_json_is_the_business_as_show_has_it() -> None:
    run = _add("--json", "--language", "DE")
    assert run.json == site.show()
    assert run.json["language"] == "de"


# numbers and names


@pytest.mark.parametrize("typed", ["whatsapp:+15550001111", "+1 (555) 000-1111", "WhatsApp:+1 555 000 1111"])
def test_number_may_be_typed_in_many_ways(typed: str) -> None:
    assert _add(number=typed).code == 0
    assert site.show()["number"] == "whatsapp:+15550001111"


@pytest.mark.parametrize("typed", ["", "5550001111", "luna", "whatsapp:", "+1", "+99912345678901234567"])
def test_number_that_is_none_is_refused(typed: str) -> None:
    run = _add(number=typed)
    assert run.code == 7
    assert "+15551234567" in run.err
    assert _stored() == []


@pytest.mark.parametrize("name", ["luna", "Luna-2", "a", "7_eleven", "café.paris", "कैफ़े", "x" * 80])
def test_name_that_needs_no_quoting_is_taken(name: str) -> None:
    assert _add(name=name).code == 0
    assert len(_stored()) == 1


@pytest.mark.parametrize(
    "name",
    ["", " ", "Luna Bakery", "_luna", ".luna", "a/b", "a`b", "lu\x1b[2Jna", "a\u202eb", "x" * 81, "\ud800", "🥐"],
)
def test_name_that_would_need_quoting_is_refused(name: str) -> None:
    run = _add(name=name)
    assert run.code == 7
    assert "begins with a letter or a digit" in run.err
    assert "\x1b" not in run.err
    assert _stored() == []


def test_refused_name_comes_with_one_that_would_do() -> None:
    assert "Try: luna-s-bakery" in _add(name="Luna's Bakery").err


def test_name_typed_decomposed_is_the_same_name() -> None:
    _add(name="cafe\u0301")
    assert _stored() == ["café"]


def test_name_that_is_taken_is_a_conflict() -> None:
    _add()
    run = _add(number="+15550002222")
    assert run.code == 6
    assert "already a business called 'luna'" in run.err


def test_name_that_differs_by_capitals_only_is_a_conflict() -> None:
    _add()
    run = _add(name="Luna", number="+15550002222")
    assert run.code == 6
    assert "already a business called 'luna'" in run.err


def test_number_that_is_taken_is_a_conflict() -> None:
    _add()
    run = _add(name="nova", number="whatsapp:+15550001111")
    assert run.code == 6
    assert "belongs to the business 'luna'" in run.err
    assert _stored() == ["luna"]


# instructions


def test_instructions_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "luna.txt"
    file.write_bytes("\ufeffDu bist Luna.\r\nSei höflich.\n".encode())
    assert _add("--instructions-file", str(file)).code == 0
    assert site.show()["instructions"] == "Du bist Luna.\nSei höflich."


def test_instructions_file_that_is_missing_is_not_found() -> None:
    run = _add("--instructions-file", "nothing.txt")
    assert run.code == 3
    assert "There is no file nothing.txt." in run.err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"caf\xe9", "is not a UTF-8 text"),
        (b"\x00\x01", "has characters that are no text"),
        (b" \n", "is empty"),
        (b"a" * 100_001, "is too long: 100,000 characters"),
        (b"a" * 400_002, "is too long: 100,000 characters"),
    ],
)
def test_instructions_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "i.txt"
    file.write_bytes(content)
    run = _add("--instructions-file", str(file))
    assert run.code == 7
    assert words in run.err
    assert "Try: " in run.err
    assert _stored() == []


def test_instructions_folder_is_refused(tmp_path: Path) -> None:
    run = _add("--instructions-file", str(tmp_path))
    assert run.code == 7
    assert "cannot be read" in run.err


def test_instructions_of_the_greatest_length_are_taken() -> None:
    assert _add("--instructions", "ä" * 100_000).code == 0


def test_instructions_twice_are_refused(tmp_path: Path) -> None:
    run = _add("--instructions", "a", "--instructions-file", str(tmp_path / "b"))
    assert run.code == 7
    assert "exclude each other" in run.err


# the other options


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--model", "", "--model is empty"),
        ("--model", "gpt 5", "is not a model's name"),
        ("--model", "m" * 121, "up to 120 characters"),
        ("--base-url", "ftp://ai.example", "is not an http or https address"),
        ("--base-url", "ai.example/v1", "is not an http or https address"),
        ("--base-url", "https://", "is not an http or https address"),
        ("--base-url", "https://ai.example:99999/v1", "is not an http or https address"),
        ("--base-url", "https://ai.exa mple/v1", "is not an http or https address"),
        ("--base-url", "https://me:canary@ai.example/v1", "has a user name or password in it"),
        ("--instructions", " ", "--instructions is empty"),
        ("--instructions", "a\x00b", "has characters that are no text"),
        ("--instructions", "a\udcffb", "has characters that are no text"),
        ("--assistant-id", "asst 1", "is not an assistant's id"),
        ("--vector-store", "vs/1", "is not a vector store's id"),
        ("--vector-store", "", "--vector-store is empty"),
        ("--language", "german", "is not a language tag"),
        ("--language", "", "--language is empty"),
        ("--language", "de-DE-1996-x-private-long", "is not a language tag"),
        ("--apology", "a" * 1601, "--apology is too long: 1,600"),
        ("--slack-user", "luna", "is not a Slack user's id"),
        ("--slack-user", "C012AB3CD", "is not a Slack user's id"),
        ("--slack-user", "", "is not a Slack user's id"),
    ],
)
def test_value_that_cannot_be_is_refused_by_its_option(option: str, value: str, words: str) -> None:
    run = _add(option, value)
    assert run.code == 7
    assert words in run.err
    assert "Try: " in run.err
    assert option in run.err
    assert "canary" not in run.err
    assert _stored() == []


@pytest.mark.parametrize(
    "options",
    [
        ["--max-message-chars", "0"],
        ["--max-message-chars", "65537"],
        ["--backend", "gpt"],
        ["--history", "none"],
        ["--slack-layout", "dm"],
    ],
)
def test_value_out_of_a_known_few_is_a_usage_error(options: list[str]) -> None:
    run = _add(*options)
    assert run.code == 2
    assert options[0] in run.err


def test_add_without_a_number_is_a_usage_error() -> None:
    assert chatbotctl("business", "add", "luna").code == 2


@pytest.mark.parametrize("backend", ["chat", "threads", "knowledge"])
def test_local_history_is_for_openai_only(backend: str) -> None:
    run = _add("--backend", backend, "--history", "local")
    assert run.code == 7
    assert "--history local is for --backend openai only" in run.err
    assert _stored() == []


@pytest.mark.parametrize(
    ("typed", "stored"), [("pt_br", "pt-BR"), ("ZH-hANT-tw", "zh-Hant-TW"), ("EN", "en"), ("es-419", "es-419")]
)
def test_language_is_stored_as_tags_are_written(typed: str, stored: str) -> None:
    _add("--language", typed)
    assert site.show()["language"] == stored


@pytest.mark.parametrize("model", ["gpt-5.1-mini", "qwen3:8b", "meta-llama/Llama-3.1-8B", "ft:gpt-4.1:acme::1"])
def test_models_of_all_servers_are_taken(model: str) -> None:
    _add("--model", model)
    assert site.show()["model"] == model


def test_repeated_values_are_stored_once() -> None:
    _add("--slack-user", "U1", "--slack-user", "U1", "--vector-store", "vs_1", "--vector-store", "vs_1")
    shown = site.show()
    assert (shown["slack_users"], shown["vector_stores"]) == (["U1"], ["vs_1"])


def test_empty_apology_sends_nothing() -> None:
    _add("--apology", "")
    assert site.show()["apology"] == ""
