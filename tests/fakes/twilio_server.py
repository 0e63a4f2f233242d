"""A loopback Twilio: takes messages, lists them, and refuses what Twilio refuses, with Twilio's codes."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
import time
import uuid
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.fakes.loopback import LoopbackServer, Request, Response

ACCOUNT = "AC" + "0" * 32
TOKEN = "twilio-token"
_PATH = re.compile(r"/2010-04-01/Accounts/(?P<account>[^/]+)/Messages(?:/(?P<sid>[^/]+))?\.json")
_ADDRESS = re.compile(r"whatsapp:(\+[1-9]\d{6,14}|[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128})")
_MAX_BODY = 1600


def refusal(
    code: int, *, status: int = 400, message: str = "Refused", headers: dict[str, str] | None = None
) -> Response:
    """Twilio's answer for an error, to plan as a fault: `fake.plan("Messages", response=refusal(63016))`."""
    body = {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return Response(status, body, headers or {})


class FakeTwilio(LoopbackServer):
    """Accounts with their tokens, and every message that was accepted, oldest first.

    `senders` limits the numbers that are WhatsApp senders of the accounts; None: any is. A known difference: a
    StatusCallback on this machine is as good as a public one.
    """

    def __init__(self, accounts: dict[str, str] | None = None, senders: set[str] | None = None) -> None:
        super().__init__()
        self.accounts = {ACCOUNT: TOKEN} if accounts is None else accounts
        self.senders = senders
        self._accepted_at: dict[str, float] = {}
        self.messages: list[dict[str, Any]] = []
        #: Seconds that Twilio's list is behind: what was accepted later does not stand in it yet.
        self.list_lag = 0.0

    def sent(self, *, to: str | None = None, sender: str | None = None) -> list[str]:
        """The bodies that were accepted, in order."""
        with self.lock:
            return [
                message["body"]
                for message in self.messages
                if to in (None, message["to"]) and sender in (None, message["from"])
            ]

    def handle(self, request: Request) -> Response:
        match = _PATH.fullmatch(request.path)
        if match is None:
            return refusal(20404, status=404, message=f"The requested resource {request.path} was not found")
        account, sid = match["account"], match["sid"]
        if not self._is_authorized(request, account):
            return refusal(20003, status=401, message="Authenticate")
        if sid is not None:
            return self._one(account, sid) if request.method == "GET" else refusal(20004, status=405)
        if request.method == "GET":
            return self._list(account, request)
        return self._create(account, request) if request.method == "POST" else refusal(20004, status=405)

    def _is_authorized(self, request: Request, account: str) -> bool:
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        try:
            user, _, token = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        return scheme == "Basic" and user == account and self.accounts.get(user) == token

    def _create(self, account: str, request: Request) -> Response:
        if request.headers.get("content-type") != "application/x-www-form-urlencoded":
            return refusal(20001, message="Content-Type must be application/x-www-form-urlencoded")
        form = request.form
        code = self._objection(form)
        if code is not None:
            return refusal(code)
        now = dt.datetime.now(dt.UTC)
        sid = "SM" + uuid.uuid4().hex
        uri = f"/2010-04-01/Accounts/{account}/Messages/{sid}"
        message = {
            "account_sid": account,
            "api_version": "2010-04-01",
            "body": form["Body"],
            "date_created": format_datetime(now),
            "date_sent": None,
            "date_updated": format_datetime(now),
            "direction": "outbound-api",
            "error_code": None,
            "error_message": None,
            "from": form["From"],
            "messaging_service_sid": None,
            "num_media": "0",
            "num_segments": "1",
            "price": None,
            "price_unit": None,
            "sid": sid,
            "status": "queued",
            "subresource_uris": {"media": f"{uri}/Media.json"},
            "to": form["To"],
            "uri": f"{uri}.json",
        }
        with self.lock:
            self.messages.append(message)
            self._accepted_at[sid] = time.monotonic()
        return Response(201, message)

    def _objection(self, form: dict[str, str]) -> int | None:
        """Twilio's code for what is wrong with a message, or None."""
        to, sender, body = form.get("To", ""), form.get("From", ""), form.get("Body")
        if not to:
            return 21604
        if not sender:
            return 21603
        if body is None:
            return 21619
        if not body.strip():
            return 21602
        if len(body) > _MAX_BODY:
            return 21617
        if not _ADDRESS.fullmatch(to):
            return 21910 if to.startswith("+") else 21211
        if not _ADDRESS.fullmatch(sender):
            return 21910 if sender.startswith("+") else 21212
        if to == sender:
            return 63031
        if self.senders is not None and sender not in self.senders:
            return 63007
        return None if _is_callback(form.get("StatusCallback")) else 21609

    def _one(self, account: str, sid: str) -> Response:
        with self.lock:
            found = next((m for m in self.messages if m["sid"] == sid and m["account_sid"] == account), None)
        return Response(200, found) if found else refusal(20404, status=404, message=f"{sid} was not found")

    def _list(self, account: str, request: Request) -> Response:
        """Newest first, in pages, filtered by To, From, DateSent> and DateSent< as Twilio does."""

        def given(name: str) -> str | None:
            return request.query.get(name, [None])[0]

        size, page = int(given("PageSize") or 50), int(given("Page") or 0)
        with self.lock:
            found = [
                message
                for message in reversed(self.messages)
                if message["account_sid"] == account
                and given("To") in (None, message["to"])
                and given("From") in (None, message["from"])
                and _between(message["date_sent"], given("DateSent>"), given("DateSent<"))
                and self._accepted_at[message["sid"]] + self.list_lag <= time.monotonic()
            ]
        shown = found[page * size : (page + 1) * size]
        more = len(found) > (page + 1) * size
        query = {name: values[0] for name, values in request.query.items()} | {"Page": str(page + 1)}
        return Response(
            200,
            {
                "messages": shown,
                "page": page,
                "page_size": size,
                "start": page * size,
                "end": page * size + max(len(shown) - 1, 0),
                "uri": request.path,
                "first_page_uri": request.path,
                "previous_page_uri": None,
                "next_page_uri": f"{request.path}?{urlencode(query)}" if more else None,
            },
        )


def _is_callback(url: str | None) -> bool:
    """Whether Twilio would take this StatusCallback: whole, up to 4,000 characters, no underscore in the host."""
    if url is None:
        return True
    parts = urlsplit(url)
    host = parts.hostname or "_"
    return parts.scheme in ("http", "https") and "_" not in host and len(url) <= 4_000


def _between(date: str | None, after: str | None, before: str | None) -> bool:
    """Whether a date of sending lies between two: one that is queued still has none, and no filter finds it."""
    if date is None:
        return after is None and before is None
    at = dt.datetime.strptime(date, "%a, %d %b %Y %H:%M:%S %z")
    return (after is None or at >= _instant(after)) and (before is None or at <= _instant(before))


def _instant(text: str) -> dt.datetime:
    instant = dt.datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=dt.UTC)
