"""What the mirror makes of a channel that changed behind our back and of a Slack that fails."""

from __future__ import annotations

import logging
import socket

import pytest

from chatbotctl.core.adapters.slack_channel import SlackChannel
from chatbotctl.core.errors import MirrorError
from chatbotctl.core.ports import Mirror
from chatbotctl.core.records.slack import Place, Post
from tests.contract.slack_mirror import HELLO, TOKEN, make_mirror, opened
from tests.fakes.loopback import Response
from tests.fakes.slack_server import FakeSlack


@pytest.fixture
def slack(fake_slack: FakeSlack) -> FakeSlack:
    return fake_slack


@pytest.fixture
def mirror(slack: FakeSlack) -> Mirror:
    return make_mirror(slack)


# a channel changed behind our back


def test_archived_channel_must_be_made_anew(slack: FakeSlack, mirror: Mirror) -> None:
    place = opened(mirror)
    slack.archive(place.channel)

    with pytest.raises(MirrorError) as caught:
        mirror.post(place=place, post=HELLO)

    assert (caught.value.reason, caught.value.retryable) == ("channel_gone", False)


def test_archived_channel_is_unarchived_where_slack_lets_bots_do_that(slack: FakeSlack, mirror: Mirror) -> None:
    slack.bots_can_unarchive = True
    place = opened(mirror)
    slack.archive(place.channel)

    mirror.post(place=place, post=HELLO)

    assert len(slack.texts(place.channel)) == 1
    assert not slack.channel(place.channel).archived


def test_bot_removed_from_a_public_channel_rejoins(slack: FakeSlack) -> None:
    mirror = make_mirror(slack, private=False)
    place = opened(mirror)
    slack.remove_bot(place.channel)

    mirror.post(place=place, post=HELLO)

    assert len(slack.texts(place.channel)) == 1


def test_bot_removed_from_a_private_channel_needs_a_new_one(slack: FakeSlack, mirror: Mirror) -> None:
    place = opened(mirror)
    slack.remove_bot(place.channel)

    with pytest.raises(MirrorError) as caught:
        mirror.post(place=place, post=HELLO)

    assert caught.value.reason == "channel_gone"


def test_deleted_channel_must_be_made_anew(slack: FakeSlack, mirror: Mirror) -> None:
    place = opened(mirror)
    slack.delete(place.channel)

    with pytest.raises(MirrorError) as caught:
        mirror.post(place=place, post=HELLO)

    assert caught.value.reason == "channel_gone"


def test_rejoining_that_is_rate_limited_keeps_the_channel(slack: FakeSlack) -> None:
    mirror = make_mirror(slack, private=False)
    place = opened(mirror)
    slack.remove_bot(place.channel)
    slack.plan("conversations.join", response=Response(429, {"ok": False, "error": "ratelimited"}))

    with pytest.raises(MirrorError) as caught:
        mirror.post(place=place, post=HELLO)

    assert (caught.value.reason, caught.value.retryable) == ("ratelimited", True)


def test_channel_that_is_lost_again_after_mending_is_gone(slack: FakeSlack) -> None:
    mirror = make_mirror(slack, private=False)
    place = opened(mirror)
    slack.plan("chat.postMessage", times=2, response=Response(body={"ok": False, "error": "not_in_channel"}))

    with pytest.raises(MirrorError) as caught:
        mirror.post(place=place, post=HELLO)

    assert caught.value.reason == "channel_gone"
    assert len(slack.seen("chat.postMessage")) == 2


# Slack fails


def test_rate_limit_comes_out_at_once_with_its_wait(slack: FakeSlack, mirror: Mirror) -> None:
    slack.limit_per_channel = 1
    place = opened(mirror)
    mirror.post(place=place, post=HELLO)

    with pytest.raises(MirrorError) as caught:
        mirror.post(place=place, post=HELLO)

    assert (caught.value.reason, caught.value.retryable, caught.value.retry_after) == ("ratelimited", True, 1.0)
    assert not caught.value.unknown_outcome
    assert len(slack.seen("chat.postMessage")) == 2


@pytest.mark.parametrize(("told", "seconds"), [("1.5", 1.5), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("soon", None)])
@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_that_slack_asks_for_may_be_in_any_form(
    slack: FakeSlack, mirror: Mirror, status: int, told: str, seconds: float | None
) -> None:
    place = opened(mirror)
    slack.plan("chat.postMessage", response=Response(status, b"", {"Retry-After": told}))

    with pytest.raises(MirrorError) as caught:
        mirror.post(place=place, post=HELLO)

    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    ("answer", "reason", "unknown"),
    [
        (Response(503, b"<html>upstream</html>", {"Content-Type": "text/html"}), "503", True),
        (Response(500, {"ok": False, "error": "internal_error"}), "internal_error", True),
        (Response(body={"ok": False, "error": "fatal_error"}), "fatal_error", True),
        (Response(body=b"<html>proxy</html>"), "unclear_answer", True),
        (Response(body=b"\xff\xfe"), "unclear_answer", True),
        (Response(body=b""), "unclear_answer", True),
        (Response(body=[]), "unclear_answer", True),
        (Response(body=["ok"]), "unclear_answer", True),
        (Response(body={"ok": True}), "unclear_answer", True),
        (Response(body=b"{}", headers={"Content-Type": "application/gzip"}), "unclear_answer", True),
        (Response(429, b"slow down"), "429", False),
        (Response(body={"ok": False, "error": "team_added_to_org"}), "team_added_to_org", False),
    ],
)
def test_passing_failures_are_retryable(
    slack: FakeSlack, mirror: Mirror, answer: Response, reason: str, unknown: bool
) -> None:
    place = opened(mirror)
    slack.plan("chat.postMessage", response=answer)

    with pytest.raises(MirrorError) as caught:
        mirror.post(place=place, post=HELLO)

    error = caught.value
    assert (error.reason, error.retryable, error.unknown_outcome) == (reason, True, unknown)


@pytest.mark.parametrize("error", ["invalid_auth", "token_revoked", "account_inactive", "missing_scope", "not_authed"])
def test_what_an_operator_can_mend_stays_owed_and_says_what_to_do(slack: FakeSlack, mirror: Mirror, error: str) -> None:
    place = opened(mirror)
    slack.plan("chat.postMessage", response=Response(body={"ok": False, "error": error}))

    with pytest.raises(MirrorError) as caught:
        mirror.post(place=place, post=HELLO)

    assert (caught.value.reason, caught.value.retryable) == (error, True)
    assert caught.value.hint


@pytest.mark.parametrize("error", ["msg_too_long", "msg_blocks_too_long", "invalid_blocks", "no_text"])
def test_what_slack_will_never_take_is_not_tried_again(slack: FakeSlack, mirror: Mirror, error: str) -> None:
    place = opened(mirror)
    slack.plan("chat.postMessage", response=Response(body={"ok": False, "error": error}))

    with pytest.raises(MirrorError) as caught:
        mirror.post(place=place, post=HELLO)

    assert (caught.value.reason, caught.value.retryable) == (error, False)


def test_connection_cut_after_the_post_got_through_is_not_posted_twice(slack: FakeSlack, mirror: Mirror) -> None:
    place = opened(mirror)
    slack.plan("chat.postMessage", cut=True, accept=True)

    with pytest.raises(MirrorError) as caught:
        mirror.post(place=place, post=HELLO)

    assert (caught.value.reason, caught.value.unknown_outcome) == ("connection_lost", True)
    assert len(slack.texts(place.channel)) == 1


def test_slack_that_hangs_is_not_waited_for(slack: FakeSlack, mirror: Mirror) -> None:
    place = opened(mirror)
    slack.plan("chat.postMessage", delay=5)

    with pytest.raises(MirrorError) as caught:
        make_mirror(slack, timeout=0.2).post(place=place, post=HELLO)

    assert (caught.value.reason, caught.value.retryable, caught.value.unknown_outcome) == ("timeout", True, True)


def test_slack_out_of_reach_surely_took_nothing() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/api/"
        mirror = SlackChannel(bot_token=TOKEN, api_base_url=url, private=True, timeout_seconds=5)

        with pytest.raises(MirrorError) as caught:
            mirror.post(place=Place(channel="C1"), post=HELLO)

    assert (caught.value.reason, caught.value.retryable, caught.value.unknown_outcome) == ("unreachable", True, False)


def test_wrong_base_url_is_named() -> None:
    mirror = SlackChannel(bot_token=TOKEN, api_base_url="slack.example/api/", private=True, timeout_seconds=5)

    with pytest.raises(MirrorError) as caught:
        mirror.post(place=Place(channel="C1"), post=HELLO)

    assert "SLACK_API_BASE_URL" in (caught.value.hint or "")


@pytest.mark.parametrize("token", ["xoxb-canary", "xoxb-canary\nx"])
def test_no_token_and_no_message_text_in_errors_or_logs(
    slack: FakeSlack, token: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    slack.plan("chat.postMessage", cut=True)
    mirror = make_mirror(slack, token=token)

    for _ in range(2):
        with pytest.raises(MirrorError) as caught:
            mirror.post(place=Place(channel="C1"), post=Post(title="canary", text="canary"))
        error: BaseException | None = caught.value
        while error is not None:
            assert "canary" not in str(error)
            error = error.__cause__

    captured = capfd.readouterr()
    assert "canary" not in caplog.text + captured.out + captured.err
