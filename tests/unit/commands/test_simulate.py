"""`simulate`: the whole path from one command; what a script reads, and that no customer ever hears of it."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from twilio.request_validator import RequestValidator

from chatbotctl.core.storage import conversations
from chatbotctl.core.storage import schema as tables
from tests import installs
from tests.cli import Run, chatbotctl
from tests.fakes.loopback import LoopbackServer, Request, Response
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import ACCOUNT, TOKEN, FakeTwilio
from tests.unit.commands import business_site as site

LUNA, NOVA = "whatsapp:+15550001111", "whatsapp:+15550002222"
ANA = "whatsapp:+15557654321"
KEYS = ["outcome", "replies", "thread_id", "message_sid", "status", "elapsed_ms"]


@pytest.fixture(autouse=True)
def install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fake_openai: FakeOpenAI, fake_twilio: FakeTwilio
) -> Iterator[None]:
    """A business that OpenAI answers for, and a Twilio account that must never be used."""
    site.set_up(monkeypatch, tmp_path, fake_openai)
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", ACCOUNT)
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("TWILIO_API_BASE_URL", fake_twilio.url)
    site.add("luna", "--backend", "openai", number=LUNA)
    yield
    assert fake_twilio.requests == []


def simulate(body: str = "Hello", *options: str, sender: str = ANA) -> Run:
    return chatbotctl("simulate", "--from", sender, "--body", body, *options)


def result(body: str = "Hello", *options: str, code: int = 0) -> dict[str, Any]:
    """What `--json` says."""
    run = simulate(body, "--json", *options)
    assert run.code == code, run.err
    said: dict[str, Any] = run.json
    assert list(said) == KEYS
    assert isinstance(said["elapsed_ms"], int)
    return said


def messages() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chatbotctl("thread", "show", "--from", ANA, "--json").json["messages"]
    return found


# answered


def test_reply_is_printed_and_the_rest_is_said_beside_it() -> None:
    run = simulate("Do you have bread?")
    assert (run.code, run.out) == (0, "You said: Do you have bread?\n")
    assert run.err.startswith("replied · HTTP 200 · ")


def test_json_has_the_keys_that_scripts_rely_on(fake_openai: FakeOpenAI) -> None:
    said = result("Hello", "--sid", "SM1", "--profile-name", "Ana")
    assert (said["outcome"], said["replies"], said["status"]) == ("replied", ["You said: Hello"], 200)
    assert said["message_sid"] == "SM1"
    assert said["thread_id"] in fake_openai.conversations
    assert [(message["author"], message["body"]) for message in messages()] == [
        ("customer", "Hello"),
        ("assistant", "You said: Hello"),
    ]


def test_every_message_has_an_id_of_its_own() -> None:
    sids = {result()["message_sid"] for _ in range(3)}
    assert len(sids) == 3
    assert all(sid.startswith("SM") for sid in sids)


def test_demo_business_answers_without_any_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "DATABASE_URL"):
        monkeypatch.delenv(name)
    assert chatbotctl("init", "--demo").code == 0
    said = result("Do you deliver?")
    assert said["outcome"] == "replied"
    assert "deliver" in said["replies"][0].lower()


def test_second_message_goes_on_in_the_same_ai_thread() -> None:
    assert result("one")["thread_id"] == result("two")["thread_id"]
    assert len(messages()) == 4


def test_long_reply_is_printed_in_its_parts(fake_openai: FakeOpenAI) -> None:
    fake_openai.reply = lambda _: "\n\n".join(["word " * 200] * 3)
    replies = result()["replies"]
    assert len(replies) > 1
    assert all(len(part) <= 1600 for part in replies)


def test_message_without_text_gets_the_line_that_only_text_is_read(fake_openai: FakeOpenAI) -> None:
    said = result("  ")
    assert said["outcome"] == "replied"
    assert "only read text" in said["replies"][0]
    assert fake_openai.asked == []


def test_number_may_be_typed_as_people_write_it() -> None:
    assert simulate(sender="+1 (555) 765-4321").code == 0
    assert len(messages()) == 2


def test_same_sid_is_answered_as_the_first_time(fake_openai: FakeOpenAI) -> None:
    first = result("Hello", "--sid", "SM1")
    again = result("Hello", "--sid", "SM1")
    first.pop("elapsed_ms")
    again.pop("elapsed_ms")
    assert again == first
    assert len(fake_openai.asked) == 1
    assert len(messages()) == 2


@pytest.mark.parametrize(
    "text", ["[/foo] [link=https://x]y[/link]", "\x1b[31mred\x9b0m", "\u202eevil שלום", "x\u0301" * 500]
)
def test_hostile_text_is_shown_and_not_obeyed(text: str) -> None:
    run = simulate(text, "--profile-name", text)
    assert run.code == 0
    assert not {"\x1b", "\x9b", "\u202e"} & set(run.out)
    run = simulate(text, "--json")
    assert run.json["outcome"] == "replied"
    assert messages()[0]["body"] == text
    assert not {"\x1b", "\x9b", "\u202e"} & set(run.out)


# not answered


def test_unknown_number_is_what_twilio_would_get_500_for() -> None:
    said = result("Hello", "--to", "+15550009999", code=3)
    assert (said["outcome"], said["status"], said["replies"]) == ("business_not_found", 500, [])
    assert said["thread_id"] is None
    run = simulate("Hello", "--to", "+15550009999")
    assert "business list" in run.err


def test_disabled_business_refuses() -> None:
    chatbotctl("business", "disable", "luna")
    said = result(code=7)
    assert (said["outcome"], said["status"], said["replies"]) == ("business_disabled", 403, [])
    assert "business enable luna" in simulate().err


def test_too_long_message_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATBOTCTL_LIMITS__MAX_MESSAGE_CHARS", "10")
    said = result("x" * 11, code=7)
    assert (said["outcome"], said["status"]) == ("message_too_long", 400)
    assert "11 characters" in simulate("x" * 11).err


def test_business_without_a_usable_assistant_apologises_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CHATBOTCTL_OPENAI__MODEL")
    said = result(code=4)
    assert (said["outcome"], said["status"]) == ("assistant_not_usable", 500)
    assert said["replies"] == [
        "Sorry, something went wrong on our side and we could not answer. Please try again in a few minutes."
    ]
    assert "model" in simulate().err
    assert len(messages()) == 4


def test_second_copy_of_a_message_that_failed_ends_as_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHATBOTCTL_OPENAI__MODEL")
    first = result("Hello", "--sid", "SM1", code=4)
    again = result("Hello", "--sid", "SM1", code=4)
    assert again["replies"] == first["replies"]


def test_ai_that_fails_apologises_and_is_an_outside_failure(fake_openai: FakeOpenAI) -> None:
    fake_openai.plan("/v1/responses", times=9, delay=0, cut=True)
    said = result(code=5)
    assert (said["outcome"], said["status"]) == ("failed", 500)
    assert said["replies"][0].startswith("Sorry")
    assert simulate().err.count("Error: ") == 1


def test_failed_answer_says_what_to_look_at_and_no_log_stands_in_between(fake_openai: FakeOpenAI) -> None:
    fake_openai.plan("/v1/responses", times=9, delay=0, cut=True)
    run = simulate()
    assert "Try: `chatbotctl thread show 1`" in run.err
    assert "turn_failed" not in run.err
    assert "ask_failed" not in run.err
    run = chatbotctl("--verbose", "simulate", "--from", ANA, "--body", "Hello")
    assert "turn_failed" in run.err
    assert "ask_failed" in run.err


def test_refused_key_points_to_the_credentials(monkeypatch: pytest.MonkeyPatch, fake_openai: FakeOpenAI) -> None:
    fake_openai.plan("/v1/conversations", times=9, response=Response(401, {"error": {"message": "No."}}))
    run = simulate()
    assert run.code == 5
    assert "refused the API key" in run.err
    assert "business credentials set NAME openai" in run.err


def test_held_thread_keeps_the_assistant_quiet(fake_openai: FakeOpenAI) -> None:
    simulate()
    with site.core() as core, core.database.write() as tx:
        tx.execute(update(tables.business_clients).values(held_by="operator"))
    said = result("Are you there?")
    assert (said["outcome"], said["status"], said["replies"]) == ("held", 200, [])
    assert len(fake_openai.asked) == 1
    run = simulate()
    assert (run.code, run.out) == (0, "")
    assert "operator" in run.err


def test_answer_that_a_reset_overtook_is_withdrawn_and_no_failure(fake_openai: FakeOpenAI) -> None:
    def reset(text: str) -> str:
        with site.core() as core, core.database.write() as tx:
            conversations.reset(tx, conversations.get(tx, 1))
        return text

    fake_openai.reply = reset
    said = result()
    assert (said["outcome"], said["status"], said["replies"]) == ("withdrawn", 200, [])
    run = simulate()
    assert (run.code, run.out) == (0, "")
    assert "withdrawn: a reset" in run.err


def test_business_has_to_be_named_when_there_are_several() -> None:
    site.add("nova", number=NOVA)
    run = simulate()
    assert run.code == 7
    assert "--to" in run.err
    assert simulate("Hello", "--to", NOVA).code == 0
    assert chatbotctl("thread", "list", "--json", "--business", "luna").json == []


def test_first_business_has_to_be_added(monkeypatch: pytest.MonkeyPatch) -> None:
    chatbotctl("business", "remove", "luna", "--yes")
    run = simulate()
    assert run.code == 3
    assert "business add" in run.err


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("--sid", "S" * 65), "MessageSid"),
        (("--sid", "SM\n1"), "MessageSid"),
        (("--profile-name", "\udc80"), "ProfileName"),
    ],
)
def test_what_a_webhook_would_be_refused_for_is_refused_here(options: tuple[str, ...], field: str) -> None:
    said = result("Hello", *options, code=7)
    assert (said["outcome"], said["status"]) == ("unreadable_message", 400)
    assert field in simulate("Hello", *options).err
    assert chatbotctl("thread", "list", "--json").json == []


@pytest.mark.parametrize("body", ["half \udc80 a character", "nul\x00nul"])
def test_text_that_no_database_takes_is_refused(body: str) -> None:
    said = result(body, code=7)
    assert (said["outcome"], said["status"]) == ("unreadable_message", 400)


def test_wrong_number_is_refused() -> None:
    assert simulate(sender="Ana").code == 7
    assert simulate("Hello", "--to", "luna").code == 7


def test_body_and_sender_are_asked_for() -> None:
    assert chatbotctl("simulate", "--from", ANA).code == 2
    assert chatbotctl("simulate", "--body", "Hello").code == 2


# nothing leaves


def test_customer_who_waits_is_left_to_the_server(monkeypatch: pytest.MonkeyPatch, fake_openai: FakeOpenAI) -> None:
    monkeypatch.setattr("chatbotctl.commands.simulate.GRACE_SECONDS", 0.2)
    monkeypatch.setenv("CHATBOTCTL_OPENAI__TURN_DEADLINE_SECONDS", "0.1")
    with site.core() as core:
        real = installs.take_in(core, "I am real", sender=ANA, receiver=LUNA)
    said = result("I am not")
    assert (said["outcome"], said["replies"]) == ("queued", [])
    assert fake_openai.asked == []
    with site.core() as core, core.database.read() as tx:
        assert tx.execute(select(tables.turns)).all() == []
        seqs = tx.execute(select(tables.inbound_messages.c.sid).order_by(tables.inbound_messages.c.seq)).all()
    assert seqs[0].sid == real.sid


def test_nothing_goes_to_slack_unless_told_to(monkeypatch: pytest.MonkeyPatch, fake_slack: FakeSlack) -> None:
    _with_slack(monkeypatch, fake_slack)
    assert simulate().code == 0
    assert fake_slack.requests == []
    with site.core() as core, core.database.read() as tx:
        assert tx.execute(select(tables.slack_posts)).all() == []


def test_slack_gets_it_marked_as_simulated_when_told_to(monkeypatch: pytest.MonkeyPatch, fake_slack: FakeSlack) -> None:
    _with_slack(monkeypatch, fake_slack)
    assert simulate("Do you have bread?", "--slack").code == 0
    (channel,) = fake_slack.channels.values()
    posted = [message.reading for message in channel.messages]
    assert len(posted) == 2
    assert "simulated" in posted[0]
    assert "Do you have bread?" in posted[0]
    assert "You said: Do you have bread?" in posted[1]


def test_reply_does_not_wait_for_slack(monkeypatch: pytest.MonkeyPatch, fake_slack: FakeSlack) -> None:
    _with_slack(monkeypatch, fake_slack)
    printed: list[str] = []

    def post_all(*_: object, **__: object) -> bool:
        printed.append(sys.stdout.getvalue())  # type: ignore[attr-defined]
        return False

    monkeypatch.setattr("chatbotctl.core.flow.slack_poster.post_all", post_all)
    run = simulate("Hello", "--slack", "--json")
    assert printed == [run.out]
    assert "Slack has not taken everything yet" in run.err


def test_slack_that_is_not_set_up_is_said() -> None:
    run = simulate("Hello", "--slack")
    assert (run.code, run.out) == (0, "You said: Hello\n")
    assert "No Slack token is set: nothing was mirrored." in run.err
    assert "SLACK_BOT_TOKEN" in run.err
    assert "Slack" not in simulate("Hello").err


def _with_slack(monkeypatch: pytest.MonkeyPatch, fake_slack: FakeSlack) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", "xoxb-test")
    monkeypatch.setenv("SLACK_API_BASE_URL", fake_slack.api_url)
    monkeypatch.setenv("CHATBOTCTL_SLACK__POSTS_PER_SECOND", "1000")


# --url: what the server itself does is the acceptance tests'


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (403, {"error": "This business is disabled.", "code": "business_disabled"}, 7),
        (500, {"error": "No business has this number.", "code": "business_not_found"}, 3),
        (503, {"error": "Not stored.", "code": "storage_unavailable"}, 5),
        (415, {"error": "Wrong content type.", "code": "wrong_content_type"}, 5),
        (502, b"<html>a proxy</html>", 5),
    ],
)
def test_refusal_by_a_server_ends_as_it_would_here(status: int, body: Any, code: int) -> None:
    with Answering(Response(status, body)) as server:
        said = result("Hello", "--url", server.url, code=code)
        run = simulate("Hello", "--url", server.url)
    assert said["status"] == status
    assert f"The server answered {status}" in run.err


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (403, "bad_signature", "PUBLIC_URL and TWILIO_AUTH_TOKEN"),
        (403, "business_disabled", "chatbotctl business enable"),
        (500, "business_not_found", "chatbotctl business list"),
        (503, "storage_unavailable", "chatbotctl db current"),
        (404, "not_found", "--url is a chatbotctl server's address"),
        (418, "teapot", "The server's log"),
    ],
)
def test_refusal_by_a_server_says_what_helps(status: int, code: str, hint: str) -> None:
    with Answering(Response(status, {"error": "No.", "code": code})) as server:
        assert hint in simulate("Hello", "--url", server.url).err


def test_webhook_is_signed_with_the_installs_token_and_says_that_it_is_simulated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PUBLIC_URL", "https://bot.example.com")
    with Answering(Response(200, {"success": True, "queued": True})) as server:
        said = result("Olá", "--url", f"{server.url}/", "--profile-name", "Ana")
    (request,) = server.requests
    assert (said["outcome"], said["status"]) == ("queued", 200)
    assert (request.method, request.path) == ("POST", "/whatsapp")
    assert request.form.pop("ChatbotctlSimulated") == "quiet"
    assert request.form["Body"] == "Olá"
    assert request.form["ProfileName"] == "Ana"
    validator = RequestValidator(TOKEN)
    assert validator.validate("https://bot.example.com/whatsapp", request.form, request.headers["x-twilio-signature"])


class Answering(LoopbackServer):
    """A server that answers every request alike."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self._response = response

    def handle(self, request: Request) -> Response:
        return self._response


def test_server_that_does_not_answer_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    run = simulate("Hello", "--url", url)
    assert run.code == 5
    assert f"{url}/whatsapp" in run.err
    assert "chatbotctl serve" in run.err


def test_server_that_is_no_url_is_a_configuration_error() -> None:
    assert simulate("Hello", "--url", "localhost").code == 4
