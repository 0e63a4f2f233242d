"""A loopback Slack Web API: keeps channels and messages, and refuses what Slack refuses.

Two workspaces cannot see each other. Known differences: it limits nothing unless told to, and it knows every
well-formed user id that is not in `unknown_users`. Like Slack, it lets no bot unarchive a channel, because archiving
removed the bot from it (`not_in_channel`); `bots_can_unarchive` shows the day on which that is mended.
"""

from __future__ import annotations

import html
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.loopback import LoopbackServer, Request, Response

BOT_USER = "UBOT"

#: Method -> bot scope it needs for (public, private) channels.
SCOPES = {
    "conversations.create": ("channels:manage", "groups:write"),
    "conversations.unarchive": ("channels:manage", "groups:write"),
    "conversations.setTopic": ("channels:write.topic", "groups:write.topic"),
    "conversations.invite": ("channels:write.invites", "groups:write.invites"),
    "conversations.join": ("channels:join", "channels:join"),
    "conversations.info": ("channels:read", "groups:read"),
    "chat.postMessage": ("chat:write", "chat:write"),
    "chat.update": ("chat:write", "chat:write"),
}


@dataclass
class FakeMessage:
    """One message of a channel."""

    ts: str
    text: str
    blocks: list[dict[str, Any]]
    thread_ts: str | None
    team: str
    unfurls: bool = True

    @property
    def reading(self) -> str:
        """What a person reads: the blocks, or the text where there are none. Mentions stay `<@U...>`."""
        if not self.blocks:
            return html.unescape(self.text)
        return "\n".join(_reading(block) for block in self.blocks)


@dataclass
class FakeChannel:
    """One channel."""

    id: str
    name: str
    team: str
    private: bool
    topic: str = ""
    archived: bool = False
    members: set[str] = field(default_factory=set)
    messages: list[FakeMessage] = field(default_factory=list)
    posted_at: list[float] = field(default_factory=list)


class Refused(Exception):
    """`ok: false` with this error."""

    def __init__(self, error: str, **more: Any) -> None:
        super().__init__(error)
        self.body = {"ok": False, "error": error, **more}


class FakeSlack(LoopbackServer):
    """`with FakeSlack() as fake: SlackChannel(bot_token="xoxb-test", api_base_url=fake.api_url, ...)`."""

    def __init__(self) -> None:
        super().__init__()
        #: Bot token -> workspace.
        self.tokens = {"xoxb-test": "T1"}
        self.channels: dict[str, FakeChannel] = {}
        self.unknown_users: set[str] = set()
        #: Posts a second and channel; more are answered with 429. None: no limit.
        self.limit_per_channel: float | None = None
        #: What the app was granted; None: everything.
        self.scopes: set[str] | None = None
        self.bots_can_unarchive = False
        self._serial = 0
        self._state = threading.RLock()

    # what a test says

    @property
    def api_url(self) -> str:
        """The base URL for clients; ends in /api/."""
        return f"{self.url}/api/"

    def channel(self, id_or_name: str) -> FakeChannel:
        """A channel by its id or its name."""
        with self._state:
            return next(c for c in self.channels.values() if id_or_name in (c.id, c.name))

    def texts(self, id_or_name: str) -> list[str]:
        """What a person reads in a channel, oldest first."""
        return [message.reading for message in self.channel(id_or_name).messages]

    def archive(self, id_or_name: str) -> None:
        """A person archives a channel, which removes the bot from it."""
        channel = self.channel(id_or_name)
        channel.archived = True
        channel.members.discard(BOT_USER)

    def remove_bot(self, id_or_name: str) -> None:
        """A person removes the bot from a channel."""
        self.channel(id_or_name).members.discard(BOT_USER)

    def delete(self, id_or_name: str) -> None:
        """A person deletes a channel."""
        del self.channels[self.channel(id_or_name).id]

    # the API

    def handle(self, request: Request) -> Response:
        method = request.path.removeprefix("/api/")
        with self._state:
            try:
                answer = self._methods().get(method)
                if answer is None:
                    raise Refused("unknown_method")
                arguments = _arguments(request)
                team = self._team(request, arguments)
                return Response(body={"ok": True, **answer(team, arguments)})
            except Refused as refused:
                late = refused.body["error"] == "ratelimited"
                return Response(429 if late else 200, refused.body, {"Retry-After": "1"} if late else {})

    def _methods(self) -> Mapping[str, Callable[[str, dict[str, Any]], dict[str, Any]]]:
        return {
            "auth.test": self._auth_test,
            "conversations.create": self._create,
            "conversations.info": self._info,
            "conversations.setTopic": self._set_topic,
            "conversations.invite": self._invite,
            "conversations.join": self._join,
            "conversations.unarchive": self._unarchive,
            "chat.postMessage": self._post,
            "chat.update": self._update,
        }

    def _team(self, request: Request, arguments: dict[str, Any]) -> str:
        token = request.headers.get("authorization", "").removeprefix("Bearer ") or arguments.get("token", "")
        if not token:
            raise Refused("not_authed")
        if token not in self.tokens:
            raise Refused("invalid_auth")
        return self.tokens[token]

    def _allow(self, method: str, private: bool) -> None:
        needed = SCOPES[method][private]
        if self.scopes is not None and needed not in self.scopes:
            raise Refused("missing_scope", needed=needed, provided=",".join(sorted(self.scopes)))

    def _channel(self, method: str, team: str, arguments: dict[str, Any]) -> FakeChannel:
        channel = self.channels.get(str(arguments.get("channel")))
        if channel is None or channel.team != team:
            raise Refused("channel_not_found")
        self._allow(method, channel.private)
        return channel

    def _auth_test(self, team: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"team_id": team, "user_id": BOT_USER, "bot_id": "B1"}

    def _create(self, team: str, arguments: dict[str, Any]) -> dict[str, Any]:
        name = str(arguments.get("name", ""))
        private = _truth(arguments.get("is_private", False))
        self._allow("conversations.create", private)
        if not name:
            raise Refused("invalid_name_required")
        if len(name) > 80:
            raise Refused("invalid_name_maxlength")
        if not re.fullmatch(r"[a-z0-9_-]+", name):
            raise Refused("invalid_name_specials")
        if not re.search(r"[a-z0-9]", name):
            raise Refused("invalid_name_punctuation")
        if any(c.name == name and c.team == team for c in self.channels.values()):
            raise Refused("name_taken")
        self._serial += 1
        channel = FakeChannel(f"C{self._serial:04}", name, team, private, members={BOT_USER})
        self.channels[channel.id] = channel
        return {"channel": _described(channel)}

    def _info(self, team: str, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel("conversations.info", team, arguments)
        if channel.private and BOT_USER not in channel.members:
            raise Refused("channel_not_found")
        return {"channel": _described(channel)}

    def _set_topic(self, team: str, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel("conversations.setTopic", team, arguments)
        _require_open(channel)
        topic = str(arguments.get("topic", ""))
        if _units(topic) > 250:
            raise Refused("too_long")
        channel.topic = topic
        return {"channel": _described(channel)}

    def _invite(self, team: str, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel("conversations.invite", team, arguments)
        _require_open(channel)
        users = [user for user in str(arguments.get("users", "")).split(",") if user]
        if not users:
            raise Refused("no_user")
        if len(users) > 100:
            raise Refused("too_many_users")
        errors = [
            {"user": user, "ok": False, "error": error} for user in users if (error := self._no_invite(channel, user))
        ]
        if errors and not (_truth(arguments.get("force", False)) and len(errors) < len(users)):
            raise Refused(str(errors[0]["error"]), errors=errors)
        channel.members |= set(users) - {error["user"] for error in errors}
        return {"channel": _described(channel)}

    def _no_invite(self, channel: FakeChannel, user: str) -> str | None:
        if user == BOT_USER:
            return "cant_invite_self"
        if not re.fullmatch(r"[UW][A-Z0-9]+", user) or user in self.unknown_users:
            return "user_not_found"
        return "already_in_channel" if user in channel.members else None

    def _join(self, team: str, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel("conversations.join", team, arguments)
        if channel.private:
            raise Refused("method_not_supported_for_channel_type")
        if channel.archived:
            raise Refused("is_archived")
        channel.members.add(BOT_USER)
        return {"channel": _described(channel)}

    def _unarchive(self, team: str, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel("conversations.unarchive", team, arguments)
        if not channel.archived:
            raise Refused("not_archived")
        if not self.bots_can_unarchive:
            raise Refused("not_in_channel")
        channel.archived = False
        channel.members.add(BOT_USER)
        return {}

    def _post(self, team: str, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel("chat.postMessage", team, arguments)
        _require_open(channel)
        text, blocks = _content(arguments)
        thread_ts = arguments.get("thread_ts")
        if thread_ts is not None and not any(m.ts == thread_ts for m in channel.messages):
            raise Refused("thread_not_found")
        self._pace(channel)
        self._serial += 1
        ts = f"{1_800_000_000 + self._serial}.{self._serial:06}"
        unfurls = _truth(arguments.get("unfurl_links", True)) or _truth(arguments.get("unfurl_media", True))
        channel.messages.append(FakeMessage(ts, text, blocks, thread_ts, team, unfurls))
        return {"channel": channel.id, "ts": ts, "message": {"text": text, "blocks": blocks, "ts": ts}}

    def _update(self, team: str, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel("chat.update", team, arguments)
        message = next((m for m in channel.messages if m.ts == arguments.get("ts")), None)
        if message is None:
            raise Refused("message_not_found")
        message.text, message.blocks = _content(arguments)
        return {"channel": channel.id, "ts": message.ts, "text": message.text}

    def _pace(self, channel: FakeChannel) -> None:
        now = time.monotonic()
        if self.limit_per_channel is not None:
            window = max(1.0, 1.0 / self.limit_per_channel)
            recent = [at for at in channel.posted_at if now - at < window]
            if len(recent) >= max(1.0, self.limit_per_channel):
                raise Refused("ratelimited")
        channel.posted_at.append(now)


def _require_open(channel: FakeChannel) -> None:
    if channel.archived:
        raise Refused("is_archived")
    if BOT_USER not in channel.members:
        # A private channel does not show itself to those outside.
        raise Refused("channel_not_found" if channel.private else "not_in_channel")


def _content(arguments: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    text = str(arguments.get("text") or "")
    blocks = arguments.get("blocks") or []
    if isinstance(blocks, str):
        try:
            blocks = json.loads(blocks)
        except ValueError as exc:
            raise Refused("invalid_blocks_format") from exc
    if not text.strip() and not blocks:
        raise Refused("no_text")
    if _units(text) > 4_000:
        raise Refused("msg_too_long")
    if not isinstance(blocks, list) or len(blocks) > 50 or not all(map(_is_valid, blocks)):
        raise Refused("invalid_blocks")
    if _units(json.dumps(blocks, ensure_ascii=False, separators=(",", ":"))) > 13_000:
        raise Refused("msg_blocks_too_long")
    return text, blocks


def _is_valid(block: Any) -> bool:
    match block:
        case {"type": "divider"}:
            return True
        case {"type": "section", "text": {"type": "mrkdwn" | "plain_text", "text": str(text)}}:
            return 1 <= _units(text) <= 3_000
        case {"type": "header", "text": {"type": "plain_text", "text": str(text)}}:
            return 1 <= _units(text) <= 150
        case {"type": "context", "elements": [_, *_] as elements}:
            return len(elements) <= 10
        case {"type": "actions", "elements": [_, *_] as elements}:
            return len(elements) <= 25 and all(map(_is_valid_button, elements))
        case {"type": "rich_text", "elements": [_, *_] as sections}:
            return all(
                section.get("type") in ("rich_text_section", "rich_text_quote", "rich_text_preformatted")
                and section.get("elements")
                and all(map(_is_valid_element, section["elements"]))
                for section in sections
            )
    return False


def _is_valid_button(element: Any) -> bool:
    match element:  # a button is the only element of an `actions` block that is known here
        case {"type": "button", "text": {"type": "plain_text", "text": str(text)}, **rest}:
            fits = _units(str(rest.get("action_id", ""))) <= 255 and _units(str(rest.get("value", ""))) <= 2_000
            return fits and 1 <= _units(text) <= 75
    return False


def _is_valid_element(element: Any) -> bool:
    match element:
        case {"type": "text", "text": str(text)}:
            return 1 <= _units(text) <= 3_000
        case {"type": "emoji", "name": str()} | {"type": "user", "user_id": str()} | {"type": "link", "url": str()}:
            return True
    return False


def _reading(block: dict[str, Any]) -> str:
    """What a person reads of one block."""
    if block["type"] == "rich_text":
        return "\n".join("".join(map(_element_reading, section["elements"])) for section in block["elements"])
    if block["type"] in ("section", "header"):
        return html.unescape(block["text"]["text"])
    if block["type"] == "context":
        return " ".join(html.unescape(element.get("text", "")) for element in block["elements"])
    return ""


def _element_reading(element: dict[str, Any]) -> str:
    kinds = {"text": "{text}", "emoji": ":{name}:", "user": "<@{user_id}>", "link": "{url}"}
    return kinds[element["type"]].format_map(element)


def _described(channel: FakeChannel) -> dict[str, Any]:
    return {
        "id": channel.id,
        "name": channel.name,
        "is_private": channel.private,
        "is_archived": channel.archived,
        "is_member": BOT_USER in channel.members,
        "topic": {"value": channel.topic},
    }


def _arguments(request: Request) -> dict[str, Any]:
    """The arguments of a JSON or a form body, strictly UTF-8."""
    kind = request.headers.get("content-type", "")
    try:
        body = request.body.decode("utf-8")
        if "application/json" not in kind:
            return dict(request.form)
        parsed = json.loads(body or "{}")
        json.dumps(parsed, ensure_ascii=False).encode("utf-8")  # lone surrogates are no text
    except ValueError as exc:
        raise Refused("invalid_json") from exc
    if not isinstance(parsed, dict):
        raise Refused("json_not_object")
    return parsed


def _truth(value: Any) -> bool:
    return value in (True, 1, "1", "true")


def _units(text: str) -> int:
    """Length as JavaScript counts it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2
