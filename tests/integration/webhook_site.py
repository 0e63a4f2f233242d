"""What the webhook's tests share: forms as Twilio sends and signs them, and a look at what was stored."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import requests
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from chatbotctl.core.adapters.twilio_signature import TwilioSignature
from chatbotctl.core.config import Key
from chatbotctl.core.storage.schema import inbound_messages
from chatbotctl.core.wiring import Core
from chatbotctl.server.run import WebhookServer
from tests.fakes.twilio_server import TOKEN
from tests.installs import BUSINESS, CUSTOMER

URL = "https://bot.example.com/whatsapp"
#: The install is called at URL.
PUBLIC: Mapping[Key, object] = {("server", "public_url"): "https://bot.example.com"}
FORM = "application/x-www-form-urlencoded"

Pairs = Sequence[tuple[str, str]]
_serial = itertools.count(1)


def pairs(body: str | None = "Do you have bread?", **fields: str) -> Pairs:
    """The fields of one message, with a MessageSid of its own."""
    base = {"MessageSid": f"SM{next(_serial):032x}", "From": CUSTOMER, "To": BUSINESS}
    if body is not None:
        base["Body"] = body
    return list((base | fields).items())


def signature(fields: Pairs, *, url: str = URL, token: str = TOKEN) -> dict[str, str]:
    """The header that signs a form."""
    return {"X-Twilio-Signature": TwilioSignature(token).sign(url=url, fields=fields)}


def post(client: FlaskClient, fields: Pairs, *, headers: Mapping[str, str] | None = None) -> TestResponse:
    """Post a form as Twilio does, signed for URL unless `headers` says otherwise."""
    signed = signature(fields) if headers is None else dict(headers)
    return client.post("/whatsapp", data=urlencode(fields), content_type=FORM, headers=signed)


def post_status(
    client: FlaskClient,
    sid: str,
    status: str,
    *,
    code: str = "",
    headers: Mapping[str, str] | None = None,
    **fields: str,
) -> TestResponse:
    """Post a status callback as Twilio does, signed for its URL unless `headers` says otherwise."""
    base = {"MessageSid": sid, "MessageStatus": status, "From": BUSINESS, "To": CUSTOMER, "ErrorCode": code}
    form = list((base | fields).items())
    signed = signature(form, url=f"{URL}/status") if headers is None else dict(headers)
    return client.post("/whatsapp/status", data=urlencode(form), content_type=FORM, headers=signed)


def post_to(url: str, fields: Pairs, *, timeout: float = 60) -> requests.Response:
    """Post a signed form to a running server."""
    return requests.post(f"{url}/whatsapp", data=fields, headers=signature(fields), timeout=timeout)


def error_of(response: TestResponse) -> tuple[int, str]:
    """(status, code) of an answer that is an error as the contract has it."""
    assert response.content_type == "application/json"
    body = json.loads(response.data)
    assert set(body) == {"error", "code"}
    assert body["error"].endswith(".")
    return response.status_code, body["code"]


def stored(core: Core) -> int:
    """How many messages are in the inbox."""
    with core.database.read() as tx:
        return int(tx.scalar(select(func.count()).select_from(inbound_messages)) or 0)


def newest(core: Core) -> Any:
    """The newest message's row."""
    with core.database.read() as tx:
        return tx.execute(select(inbound_messages).order_by(inbound_messages.c.id.desc()).limit(1)).one()


@contextmanager
def served(core: Core, *, run_worker: bool = True) -> Iterator[WebhookServer]:
    """A real server on a free port, drained at the end."""
    server = WebhookServer(core, host="127.0.0.1", port=0, run_worker=run_worker)
    thread = threading.Thread(target=server.run, name="webhook-server")
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive(), "the server does not stop"


class Gate:
    """An assistant's `reply` that thinks until it is opened."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def __call__(self, text: str) -> str:
        self._open.wait(60)
        return f"You said: {text}"

    def open(self) -> None:
        """Let everybody who asked have an answer."""
        self._open.set()
