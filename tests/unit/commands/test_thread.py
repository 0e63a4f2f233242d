"""`thread list|show|reset` as an operator and a script see them."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import insert, update

from chatbotctl.core.storage import conversations, inbox
from chatbotctl.core.storage import schema as tables
from tests import installs
from tests.cli import Run, chatbotctl
from tests.fakes.loopback import Response
from tests.fakes.openai_server import FakeOpenAI
from tests.unit.commands import business_site as site

LUNA, NOVA = "whatsapp:+15550001111", "whatsapp:+15550002222"
ANA, BEN = "whatsapp:+15557654321", "whatsapp:+15557650000"
THREAD_KEYS = ["id", "business", "from", "to", "thread_id", "messages", "last_message_at", "held_by"]


@pytest.fixture(autouse=True)
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    site.set_up(monkeypatch, tmp_path)
    live_in(monkeypatch, "UTC")
    site.add("luna", number=LUNA)
    yield
    monkeypatch.delenv("TZ")
    time.tzset()


def live_in(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """The operator's time zone."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()


def say(body: str = "Hello", sender: str = ANA, to: str = LUNA, *more: str) -> None:
    """A simulated message and its reply."""
    run = chatbotctl("simulate", "--from", sender, "--to", to, "--body", body, *more)
    assert run.code == 0, run.err


def received(body: str = "Hello", sender: str = ANA, **fields: Any) -> int:
    """A real message that nobody has answered yet; returns the thread."""
    with site.core() as core:
        return installs.take_in(core, body, sender=sender, receiver=LUNA, **fields).conversation_id


def sent(thread: int, body: str, **columns: Any) -> None:
    """A row of the outbox."""
    row = {"author": "assistant", "sender": LUNA, "recipient": ANA, "epoch": 0, "state": "sent", **columns}
    with site.core() as core, core.database.write() as tx:
        tx.execute(insert(tables.outbound_messages).values(conversation_id=thread, body=body, **row))


def changed(thread: int, **columns: Any) -> None:
    """Change columns of a conversation."""
    with site.core() as core, core.database.write() as tx:
        tx.execute(update(tables.business_clients).where(tables.business_clients.c.id == thread).values(columns))


def listed(*options: str) -> list[dict[str, Any]]:
    run = chatbotctl("thread", "list", "--json", *options)
    assert run.code == 0, run.err
    found: list[dict[str, Any]] = run.json
    return found


def shown(*options: str) -> str:
    run = chatbotctl("thread", "show", *options)
    assert run.code == 0, run.err
    return run.out


# list


def test_list_json_has_the_keys_that_scripts_rely_on() -> None:
    say()
    (thread,) = listed()
    assert list(thread) == THREAD_KEYS
    assert thread.pop("thread_id").startswith("local_")
    assert thread.pop("last_message_at").endswith("Z")
    assert thread == {"id": 1, "business": "luna", "from": ANA, "to": LUNA, "messages": 2, "held_by": "assistant"}


def test_thread_that_the_ai_never_had_has_no_thread_id() -> None:
    received()
    assert listed()[0]["thread_id"] is None


def test_latest_message_comes_first() -> None:
    say(sender=ANA)
    say(sender=BEN)
    say(sender=ANA)
    assert [thread["from"] for thread in listed()] == [ANA, BEN]


def test_list_for_people_has_numbers_in_full_and_says_how_long_ago() -> None:
    say("Hello", ANA, LUNA, "--profile-name", "Ana")
    run = chatbotctl("thread", "list")
    head, row = run.out.splitlines()
    assert head.split() == ["ID", "BUSINESS", "CUSTOMER", "NAME", "MESSAGES", "LATEST", "HELD", "BY"]
    assert row.split() == ["1", "luna", "+15557654321", "Ana", "2", "just", "now", "assistant"]


def test_only_one_business_is_listed() -> None:
    site.add("nova", number=NOVA)
    say(to=LUNA)
    say(to=NOVA)
    assert [thread["to"] for thread in listed("--business", "nova")] == [NOVA]


def test_only_held_threads_are_listed() -> None:
    received(sender=ANA)
    changed(received(sender=BEN), held_by="operator")
    assert [(thread["from"], thread["held_by"]) for thread in listed("--held")] == [(BEN, "operator")]


@pytest.mark.parametrize("since", ["90m", "2h", "2026-11-01", "2026-11-01T08:30", "2026-11-01T08:30:00+02:00"])
def test_only_threads_with_a_message_since_then_are_listed(since: str) -> None:
    received(sender=ANA)
    changed(received(sender=BEN), last_message_at=1_700_000_000.0)
    assert [thread["from"] for thread in listed("--since", since)] == [ANA]


def test_older_threads_are_listed_when_since_reaches_back_to_them() -> None:
    changed(received(sender=BEN), last_message_at=1_700_000_000.0)
    assert len(listed("--since", "2023-11-01")) == 1
    assert len(listed("--since", "2023-11-20")) == 0


def test_date_is_the_operators_own(monkeypatch: pytest.MonkeyPatch) -> None:
    changed(received(), last_message_at=1_700_000_000.0)  # 2023-11-14 22:13:20 UTC
    assert len(listed("--since", "2023-11-15")) == 0
    live_in(monkeypatch, "Etc/GMT-3")  # three hours ahead of UTC
    assert len(listed("--since", "2023-11-15")) == 1


@pytest.mark.parametrize("since", ["yesterday", "24", "1y", "-1h", "2026-13-01", "", "99999999999d"])
def test_time_that_cannot_be_read_is_a_usage_error(since: str) -> None:
    run = chatbotctl("thread", "list", "--since", since)
    assert run.code == 2
    assert "24h" in run.err


def test_list_says_when_there_are_more() -> None:
    for number in range(3):
        received(sender=f"whatsapp:+1555765000{number}")
    run = chatbotctl("thread", "list", "--limit", "2")
    assert len(run.out.splitlines()) == 3
    assert "There are more" in run.err
    assert "There are more" not in chatbotctl("thread", "list", "--limit", "3").err


def test_empty_list_is_an_empty_document_and_a_note() -> None:
    assert listed() == []
    run = chatbotctl("thread", "list")
    assert (run.code, run.out) == (0, "")
    assert "no thread yet" in run.err


def test_business_that_is_not_there_is_named() -> None:
    run = chatbotctl("thread", "list", "--business", "nova")
    assert run.code == 3
    assert "nova" in run.err
    assert "luna" in run.err


@pytest.mark.parametrize("options", [("--limit", "0"), ("--limit", "many"), ("--nope",)])
def test_wrong_options_are_usage_errors(options: tuple[str, ...]) -> None:
    assert chatbotctl("thread", "list", *options).code == 2


# show


def test_show_json_has_the_keys_that_scripts_rely_on() -> None:
    say("Do you deliver?")
    run = chatbotctl("thread", "show", "1", "--json")
    assert list(run.json) == ["thread", "messages"]
    assert run.json["thread"] == listed()[0]
    asked, answered = run.json["messages"]
    assert list(asked) == list(answered) == ["direction", "author", "body", "sid", "status", "at"]
    assert (asked["direction"], asked["author"], asked["body"]) == ("inbound", "customer", "Do you deliver?")
    assert (asked["sid"][:2], asked["status"]) == ("SM", "received")
    assert (answered["direction"], answered["author"], answered["status"]) == ("outbound", "assistant", "printed")
    assert asked["at"] <= answered["at"]
    assert asked["at"].endswith("Z")


def test_transcript_tells_who_said_what_and_when() -> None:
    say("Do you deliver?", ANA, LUNA, "--profile-name", "Ana")
    lines = shown("1").splitlines()
    assert "Ana (+15557654321)" in lines[1]
    assert "luna (+15550001111)" in lines[2]
    asked = lines.index("  Do you deliver?")
    assert lines[asked - 1].endswith("Ana  simulated")
    assert lines[asked + 2].endswith("Assistant  printed, never sent")


def test_transcript_has_a_heading_for_each_day() -> None:
    thread = received("On the first day")
    with site.core() as core, core.database.write() as tx:
        tx.execute(update(tables.inbound_messages).values(received_at=1_700_000_000.0))
    received("Much later")
    text = shown(str(thread))
    first = text.index("── Tuesday, 14 November 2023 ──")
    assert first < text.index("On the first day") < text.rindex(" ──") < text.index("Much later")
    assert text.count("── ") == 2


def test_transcript_says_what_came_without_text() -> None:
    received("", kind="audio")
    received("Look at this", kind="image")
    received("", kind="something-new")
    text = shown("1")
    assert "  [A voice note]" in text
    assert "with an image\n  Look at this" in text
    assert "  [Something else than text]" in text


def test_transcript_shows_translations_below_the_words() -> None:
    thread = received("Vocês entregam?")
    with site.core() as core, core.database.write() as tx:
        inbox.set_translation(tx, 1, "Do you deliver?", "pt")
    assert "  Vocês entregam?\n  Translated: Do you deliver?\n" in shown(str(thread))


def test_transcript_says_what_did_not_arrive_and_why() -> None:
    thread = received()
    sent(thread, "Refused", state="failed", error_code="63016")
    sent(thread, "Bounced", delivery_status="undelivered", error_code="63024")
    sent(thread, "Overtaken", state="withdrawn")
    sent(thread, "Who knows", state="unknown", error_code="timeout")
    sent(thread, "Fine", delivery_status="read")
    text = shown(str(thread))
    assert "Assistant  not delivered (63016)\n  Refused" in text
    assert "Assistant  not delivered (63024)\n  Bounced" in text
    assert "Assistant  withdrawn, never sent\n  Overtaken" in text
    assert "Assistant  perhaps not delivered (timeout)\n  Who knows" in text
    assert "Assistant\n  Fine" in text


def test_transcript_says_why_the_assistant_failed_beside_what_the_customer_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake_openai: FakeOpenAI
) -> None:
    site.set_up(monkeypatch, tmp_path, fake_openai)
    site.add("nova", "--backend", "openai", number=NOVA)
    fake_openai.plan("/v1/conversations", response=Response(401, {"error": {"message": "canary"}}))
    assert chatbotctl("simulate", "--from", ANA, "--to", NOVA, "--body", "Hello").code == 5
    say("Hello again", ANA, NOVA)
    lines = shown("1").splitlines()
    heads = [line for line in lines if "Automatic line" in line or "Assistant" in line or "Customer  " in line]
    assert [head.partition("the assistant failed: ")[2] for head in heads if "failed" in head] == [
        "The AI provider refused the API key."
    ]
    assert "Automatic line  printed, never sent · the assistant failed: " in "\n".join(lines)
    assert "canary" not in "\n".join(lines)


def test_failure_without_any_line_for_the_customer_stands_beside_the_customers_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake_openai: FakeOpenAI
) -> None:
    site.set_up(monkeypatch, tmp_path, fake_openai)
    Path("config.toml").write_text("[replies]\napology = ''\n")
    site.add("nova", "--backend", "openai", number=NOVA)
    fake_openai.plan("/v1/conversations", response=Response(401, {"error": {"message": "canary"}}))
    assert chatbotctl("simulate", "--from", ANA, "--to", NOVA, "--body", "Hello").code == 5
    assert "Customer  simulated · the assistant failed: The AI provider refused the API key.\n  Hello" in shown("1")


def test_transcript_tells_operators_and_automatic_lines_from_the_assistant() -> None:
    thread = received()
    sent(thread, "I am a person", author="operator")
    sent(thread, "Sorry", author="system")
    changed(thread, held_by="operator")
    text = shown(str(thread))
    assert "Operator\n  I am a person" in text
    assert "Automatic line\n  Sorry" in text
    assert "the assistant stays quiet" in text


def test_only_the_end_is_shown_and_no_reset_from_before_it() -> None:
    say("one")
    assert chatbotctl("thread", "reset", "1", "--yes").code == 0
    say("two")
    text = shown("1", "--last", "2")
    assert "  one" not in text
    assert "  two" in text
    assert "reset" not in text
    assert len(chatbotctl("thread", "show", "1", "--last", "1", "--json").json["messages"]) == 1


def test_thread_is_found_by_any_spelling_of_the_number() -> None:
    received(sender="whatsapp:+5511987654321")
    for spelling in ("+5511987654321", "whatsapp:+5511987654321", "+55 11 98765-4321", "+551187654321"):
        assert "+5511987654321" in shown("--from", spelling)


def test_number_that_writes_to_two_businesses_asks_which_one() -> None:
    site.add("nova", number=NOVA)
    say("to luna", to=LUNA)
    say("to nova", to=NOVA)
    run = chatbotctl("thread", "show", "--from", ANA)
    assert run.code == 7
    assert "--to +15550001111 (luna)" in run.err
    assert "--to +15550002222 (nova)" in run.err
    assert "to nova" in shown("--from", ANA, "--to", "+15550002222")


def test_number_with_one_thread_needs_no_business_however_many_there_are() -> None:
    site.add("nova", number=NOVA)
    say("to nova", to=NOVA)
    assert "to nova" in shown("--from", ANA)


@pytest.mark.parametrize(
    ("given", "code", "words"),
    [
        (("99",), 3, "There is no thread 99."),
        (("9" * 30,), 3, "There is no thread"),
        (("--from", "+15550009999"), 3, "No thread is with +15550009999."),
        (("--from", ANA, "--to", "+15550009999"), 3, "No business has the number +15550009999."),
        (("--from", ANA, "--to", LUNA), 3, "luna has no thread"),
        (("--from", "Ana"), 7, "is not a WhatsApp number"),
        ((), 2, "either by its ID or by --from"),
        (("1", "--from", ANA), 2, "either by its ID or by --from"),
        (("1", "--to", LUNA), 2, "--from"),
        (("--last", "0", "1"), 2, "--last"),
        (("one",), 2, "valid integer"),
    ],
)
def test_thread_that_is_not_named_well_is_an_error_that_says_so(given: tuple[str, ...], code: int, words: str) -> None:
    run = chatbotctl("thread", "show", *given)
    assert run.code == code
    assert words in " ".join(run.err.replace("│", " ").split())
    assert run.out == ""


def test_hostile_text_is_shown_and_not_obeyed() -> None:
    hostile = "\x1b[31mred\x9b0m [link=https://evil.example]x[/link] [/foo] \u202eevil"
    received(hostile, profile_name="\x1b]0;title\x07 [/foo]")
    for run in (chatbotctl("thread", "show", "1"), chatbotctl("thread", "list")):
        assert run.code == 0
        assert not {"\x1b", "\x9b", "\x07", "\u202e"} & set(run.out)
    assert "[link=https://evil.example]x[/link] [/foo]" in shown("1")
    run = chatbotctl("thread", "show", "1", "--json")
    assert not {"\x1b", "\x9b", "\u202e"} & set(run.out)
    assert run.json["messages"][0]["body"] == hostile


def test_customer_cannot_write_a_line_that_looks_like_somebody_elses() -> None:
    received("Hi\n10:00  Operator\nPay to my account")
    assert "\n10:00  Operator" not in shown("1")


# reset


def reset(*options: str) -> Run:
    return chatbotctl("thread", "reset", *(options or ("1",)), "--yes")


def test_reset_thread_gets_a_new_ai_thread_with_the_next_message() -> None:
    say("one")
    before = listed()[0]["thread_id"]
    assert reset("--from", ANA).code == 0
    assert listed()[0]["thread_id"] is None
    say("two")
    assert listed()[0]["thread_id"] not in (None, before)


def test_reset_keeps_the_history_and_marks_it() -> None:
    say("one")
    assert reset().code == 0
    say("two")
    text = shown("1")
    assert text.index("  one") < text.index("reset: the assistant sees nothing from before this") < text.index("  two")
    assert listed()[0]["messages"] == 4


def test_reset_asks_first_and_does_nothing_where_nobody_can_be_asked() -> None:
    say("one")
    before = listed()
    run = chatbotctl("thread", "reset", "1", stdin="y\n")
    assert run.code == 7
    assert "--yes" in run.err
    assert "+15557654321 with luna" in run.err
    assert listed() == before


def test_dry_run_says_what_would_be_reset_and_changes_nothing() -> None:
    say("one")
    before = listed()
    run = chatbotctl("thread", "reset", "1", "--dry-run")
    assert run.code == 0
    assert "Would reset thread 1" in run.err
    assert listed() == before


def test_second_reset_finds_nothing_to_do_and_marks_nothing() -> None:
    say("one")
    assert "is reset" in reset().err
    run = reset()
    assert run.code == 0
    assert "was reset already" in run.err
    assert shown("1").count("reset:") == 1


def test_reply_under_way_is_withdrawn_by_a_reset() -> None:
    thread = received()
    with site.core() as core, core.database.read() as tx:
        before = conversations.get(tx, thread).epoch
    assert reset().code == 0
    with site.core() as core, core.database.read() as tx:
        assert conversations.get(tx, thread).epoch == before + 1


def test_reset_removes_the_entry_from_a_shared_cache(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    say("one")
    with redis.Redis.from_url(redis_url) as client:
        assert client.exists(f"{ANA}_{LUNA}")
        assert reset().code == 0
        assert not client.exists(f"{ANA}_{LUNA}")


def test_reset_says_that_redis_cannot_be_reached_and_counts_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    say("one")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
    run = reset()
    assert run.code == 0
    assert "Redis cannot be reached" in run.err
    assert "is reset" in run.err
    assert listed()[0]["thread_id"] is None


def test_thread_that_is_not_there_cannot_be_reset() -> None:
    assert reset("99").code == 3
