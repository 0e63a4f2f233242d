"""Slack out: opens a conversation's channel and posts to it.

Built by wiring, one per workspace; the Slack outbox calls it. It tries once (and once more after mending the channel),
never sleeps, and says precisely what is known about a failure: pace and retries are the outbox's. How a post looks is
slack_blocks.py's.
"""

from __future__ import annotations

import logging
import re
import secrets
import string
import threading
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from typing import TYPE_CHECKING, cast

from chatbotctl.core.adapters.retry_after import seconds_to_wait
from chatbotctl.core.adapters.slack_blocks import Message, channel_name, channel_topic, render, user_ids
from chatbotctl.core.errors import MirrorError
from chatbotctl.core.log import event
from chatbotctl.core.records.slack import Place, Post

if TYPE_CHECKING:
    from slack_sdk import WebClient
    from slack_sdk.errors import SlackApiError
    from slack_sdk.web import SlackResponse

#: Names tried for one channel: the plain one, then with a random suffix each.
NAME_ATTEMPTS = 5
#: Users in one conversations.invite call. docs.slack.dev/reference/methods/conversations.invite
INVITE_LIMIT = 100

#: Slack asks to come back later.
_BUSY = frozenset({"ratelimited", "rate_limited"})
#: Slack failed, perhaps after it had done what was asked ("some aspect of the operation succeeded", say its docs).
_FAILED = frozenset({"fatal_error", "internal_error", "request_timeout", "service_unavailable"})
#: Slack is being moved or maintained and took nothing.
_AWAY = frozenset({"org_login_required", "team_added_to_org"})
#: A person must change something in Slack or in our settings; until then everything owed stays owed.
_HINTS = {
    **dict.fromkeys(
        ("invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive", "not_allowed_token_type"),
        "Check slack.bot_token (SLACK_BOT_TOKEN): it must be the installed app's bot token, xoxb-...",
    ),
    **dict.fromkeys(
        ("missing_scope", "no_permission", "team_access_not_granted"),
        "Compare the app with `chatbotctl slack manifest`, then reinstall it to the workspace.",
    ),
    **dict.fromkeys(
        (
            "access_denied",
            "accesslimited",
            "ekm_access_denied",
            "enterprise_is_restricted",
            "message_limit_exceeded",
            "restricted_action",
            "two_factor_setup_required",
        ),
        "A setting or a plan limit of the Slack workspace forbids this: ask its administrator.",
    ),
}
#: Answers to an invite that mean the user is in.
_IS_MEMBER = frozenset({"already_in_channel", "cant_invite_self"})
#: Slack's error codes; anything else in their place is an answer that we do not understand.
_CODE = re.compile(r"[a-z0-9_]{1,60}")


class SlackChannel:
    """ports.Mirror for one workspace. Its client is made on first use and shared by all threads.

    Arguments:
        bot_token: `xoxb-...` of the app that `slack_manifest.manifest` describes.
        api_base_url: another server than Slack's own, ending in /api/ (tests, proxies); None: Slack's.
        private: whether new channels are private.
        timeout_seconds: for the connection and again for each wait on an answer.

    All errors are MirrorError. `reason` is Slack's own code, `channel_gone`, `unreachable`, `timeout`,
    `connection_lost` or `unclear_answer`. `unknown_outcome` comes together with `retryable` here: a post that stands in
    Slack twice is a smaller harm than one that is missing, and Slack takes no idempotency key.
    """

    def __init__(self, *, bot_token: str, api_base_url: str | None, private: bool, timeout_seconds: float) -> None:
        self._bot_token = bot_token.strip()
        self._api_base_url = api_base_url
        self._private = private
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._client: WebClient | None = None
        #: Channels that exist but still lack their topic or members, by what was asked for. Without this a rate limit
        #: between two calls would leave an orphan channel behind at every attempt.
        self._unfinished: dict[tuple[str, str, tuple[str, ...]], str] = {}

    def open_channel(self, *, name: str, topic: str, invite: Sequence[str]) -> str:
        """Make a channel with a valid, unique name near `name`, set its topic, invite the users; returns its id.

        After a retryable failure the same call goes on with the channel that was made. A topic that Slack refuses and
        users whom it does not know are logged and left out: a channel without them is better than none.
        """
        asked = (name, topic, tuple(invite))
        channel = self._unfinished.get(asked) or self._create(channel_name(name))
        self._unfinished[asked] = channel
        self._set_topic(channel, topic)
        users = user_ids(invite)
        for start in range(0, len(users), INVITE_LIMIT):
            self._invite(channel, users[start : start + INVITE_LIMIT])
        self._unfinished.pop(asked, None)
        return channel

    def post(self, *, place: Place, post: Post) -> str:
        """Post once; returns the message's `ts`. Unarchives or rejoins the channel if need be and tries again once.

        Raises MirrorError with reason `channel_gone` when the channel must be made anew. That is the rule for archived
        channels: Slack lets no bot back into a channel it was removed from by the archiving, and says so in the
        documentation of conversations.unarchive. The attempt costs one call and works once Slack mends that.
        """
        message = render(post)
        try:
            return self._post_once(place, message)
        except MirrorError as exc:
            if exc.reason not in ("is_archived", "not_in_channel"):
                raise
            self._mend(place.channel, exc.reason)
        try:
            return self._post_once(place, message)
        except MirrorError as exc:
            if exc.reason in ("is_archived", "not_in_channel"):
                raise _gone() from exc
            raise

    def _post_once(self, place: Place, message: Message) -> str:
        answer = self._call(
            lambda slack: slack.chat_postMessage(
                channel=place.channel,
                thread_ts=place.thread_ts,
                text=message.text,
                blocks=list(message.blocks),
                unfurl_links=False,
                unfurl_media=False,
            )
        )
        return _id_in(answer.get("ts"))

    def _mend(self, channel: str, reason: str) -> None:
        try:
            if reason == "is_archived":
                self._call(lambda slack: slack.conversations_unarchive(channel=channel))
            else:
                self._call(lambda slack: slack.conversations_join(channel=channel))
        except MirrorError as exc:
            if exc.retryable:
                raise
            if exc.reason != "not_archived":
                raise _gone() from exc

    def _create(self, name: str) -> str:
        """Make a channel called `name`, or nearly so when that name is taken (by an archived or unseen one perhaps)."""
        for attempt in range(NAME_ATTEMPTS):
            try:
                return self._create_once(name if attempt == 0 else _with_suffix(name))
            except MirrorError as exc:
                if exc.reason != "name_taken":
                    raise
        raise MirrorError("Slack has channels of all the names that were tried.", reason="name_taken", retryable=True)

    def _create_once(self, name: str) -> str:
        answer = self._call(lambda slack: slack.conversations_create(name=name, is_private=self._private))
        made = answer.get("channel")
        return _id_in(made.get("id") if isinstance(made, dict) else None)

    def _set_topic(self, channel: str, topic: str) -> None:
        try:
            self._call(lambda slack: slack.conversations_setTopic(channel=channel, topic=channel_topic(topic)))
        except MirrorError as exc:
            if exc.retryable:
                raise
            event("slack_topic_refused", level="warning", channel=channel, reason=exc.reason)

    def _invite(self, channel: str, users: Sequence[str]) -> None:
        """Invite all at once; when one of them spoils that, one by one."""
        try:
            self._call(lambda slack: slack.conversations_invite(channel=channel, users=list(users)))
        except MirrorError as exc:
            if exc.retryable:
                raise
            if len(users) > 1:
                for user in users:
                    self._invite(channel, [user])
            elif exc.reason not in _IS_MEMBER:
                event("slack_invite_refused", level="warning", channel=channel, user=users[0], reason=exc.reason)

    def _call(self, request: Callable[[WebClient], SlackResponse]) -> Mapping[str, object]:
        """Make one request and return Slack's answer; every failure comes out as MirrorError."""
        from slack_sdk.errors import SlackApiError, SlackRequestError

        try:
            data = request(self._slack()).data
        except SlackApiError as exc:
            raise _refused(exc) from exc
        except SlackRequestError as exc:
            raise _wrong_url() from exc
        except (OSError, HTTPException) as exc:
            raise _unreachable(exc) from exc
        except (AttributeError, LookupError, TypeError, ValueError):
            # What the SDK runs into when the answer is no JSON object or no text at all. Not `from exc`: a ValueError
            # about a header holds the token.
            raise _unclear_answer() from None
        if not isinstance(data, dict):
            raise _unclear_answer()
        return data

    def _slack(self) -> WebClient:
        from slack_sdk import WebClient

        base_url = self._api_base_url or WebClient.BASE_URL
        if not base_url.startswith(("https://", "http://")):
            raise _wrong_url()
        with self._lock:
            if self._client is None:
                self._client = WebClient(
                    token=self._bot_token,
                    base_url=base_url,
                    # Seconds as a float are fine with urllib, whatever the SDK's annotation says.
                    timeout=cast("int", self._timeout_seconds),
                    # None at all: the SDK's default would send a post again after a broken connection.
                    retry_handlers=[],
                    # Outside of logging's tree and silent: the SDK's logger writes whole requests at DEBUG, and
                    # errors that may hold the token.
                    logger=logging.Logger("slack_sdk", level=logging.CRITICAL + 1),
                )
            return self._client


def _with_suffix(name: str) -> str:
    """`name` with five random letters and digits, 80 characters at most."""
    suffix = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(5))
    return f"{name[:74].rstrip('-')}-{suffix}"


def _id_in(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise _unclear_answer()
    return value


def _refused(exc: SlackApiError) -> MirrorError:
    """The error for an answer of Slack's that is not a success."""
    response = exc.response
    status = response.status_code
    code = response.data.get("error") if isinstance(response.data, dict) else None
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        code = ""
    if status == 429 or code in _BUSY:
        return MirrorError(
            "Slack takes no more requests at the moment.",
            reason=code or "429",
            retryable=True,
            retry_after=_retry_after(response.headers),
        )
    if status >= 500 or code in _FAILED:
        return MirrorError(
            "Slack failed while it handled the request.",
            reason=code or str(status),
            retryable=True,
            unknown_outcome=True,
            retry_after=_retry_after(response.headers),
        )
    if not code:
        return _unclear_answer()
    if code == "channel_not_found":
        return _gone()
    if code in _AWAY or code in _HINTS:
        return MirrorError(f"Slack refuses us ({code}).", reason=code, retryable=True, hint=_HINTS.get(code))
    return MirrorError(f"Slack refused the request ({code}).", reason=code)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    return seconds_to_wait(next((value for name, value in headers.items() if name.lower() == "retry-after"), None))


def _unreachable(exc: Exception) -> MirrorError:
    """The error for a request without an answer.

    urllib wraps what fails up to the end of sending in URLError; Slack acts on no request that it has not in full. What
    fails after that comes as it is.
    """
    from urllib.error import URLError

    if isinstance(exc, URLError) and not isinstance(exc.reason, (BrokenPipeError, ConnectionResetError)):
        return MirrorError("Slack cannot be reached.", reason="unreachable", retryable=True)
    if isinstance(exc, TimeoutError):
        return MirrorError("Slack did not answer in time.", reason="timeout", retryable=True, unknown_outcome=True)
    return MirrorError("The connection to Slack broke.", reason="connection_lost", retryable=True, unknown_outcome=True)


def _wrong_url() -> MirrorError:
    return MirrorError(
        "The request to Slack could not be made.",
        reason="invalid_url",
        retryable=True,
        hint="Check slack.api_base_url (SLACK_API_BASE_URL): https://.../api/",
    )


def _unclear_answer() -> MirrorError:
    return MirrorError("Slack's answer makes no sense.", reason="unclear_answer", retryable=True, unknown_outcome=True)


def _gone() -> MirrorError:
    return MirrorError("The Slack channel is gone or closed to us.", reason="channel_gone")
