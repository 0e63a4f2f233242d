"""The load: webhooks as Twilio sends them, over a bounded number of connections of the loopback interface.

It shares the processors with what it measures, so it takes as little of them as Python can: the requests are made and
signed before the clock starts, and one thread writes them to bare sockets and waits for all of them at once.
Connections are kept open, as Twilio's own proxies and the buffering proxy in front of a server keep them.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlencode

from benchmarks.measuring import Failed
from chatbotctl.core.adapters.twilio_signature import TwilioSignature
from tests.fakes.twilio_server import ACCOUNT, TOKEN

#: What both sides are told to be called by, so that one request fits either.
PUBLIC_URL = "https://webhook.example"
#: Businesses that the customers write to: no one of them takes up the worker (`worker.business_share`).
BUSINESSES = 10
#: Seconds that an answer is waited for.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Webhook:
    """One request, ready to be sent."""

    sid: str
    customer: str
    request: bytes


@dataclass(slots=True)
class Sent:
    """One request that was answered with 200; times are time.monotonic()'s."""

    webhook: Webhook
    at: float
    answered_at: float = 0.0
    #: The answer's body.
    answer: bytes = b""

    @property
    def seconds(self) -> float:
        """Until its answer was there."""
        return self.answered_at - self.at


def webhooks(count: int, *, conversations: int, first: int = 0) -> list[Webhook]:
    """Messages from so many customers in turn, signed, to BUSINESSES businesses in turn.

    Arguments:
        first: the number of the first customer, so that loads can have customers of their own.
    """
    signature = TwilioSignature(TOKEN)
    url = f"{PUBLIC_URL}/whatsapp"
    made = []
    for number in range(count):
        who = first + number % conversations
        form = _form(f"whatsapp:+1555{who:07d}", address(who % BUSINESSES), f"Do you deliver on Sundays? ({number})")
        request = _request(form, signature.sign(url=url, fields=list(form.items())))
        made.append(Webhook(form["MessageSid"], form["From"], request))
    return made


def address(number: int) -> str:
    """The number of business 0 to BUSINESSES - 1."""
    return f"whatsapp:+1444{number:07d}"


def send(
    ports: Sequence[int], waiting: Sequence[Webhook], *, connections: int, per_second: float | None = None
) -> list[Sent]:
    """Send all of them; in the order in which they were sent.

    Arguments:
        ports: the servers that the connections are spread over.
        connections: each sends the next when its last was answered.
        per_second: not more than so many, evenly spread; None: as many as are answered.

    Raises Failed for any answer but 200.
    """
    with _Load(ports, connections) as load:
        return load.run(waiting, pause=1 / per_second if per_second else 0.0)


class _Load:
    """Connections, and what is under way on each."""

    def __init__(self, ports: Sequence[int], connections: int) -> None:
        self._stack = contextlib.ExitStack()
        self._sockets: dict[int, socket.socket] = {}
        self._poll = select.epoll()
        self._stack.callback(self._poll.close)
        for number in range(connections):
            address = ("127.0.0.1", ports[number % len(ports)])
            one = self._stack.enter_context(socket.create_connection(address, timeout=PATIENCE))
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[one.fileno()] = one
            self._poll.register(one.fileno(), select.EPOLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, waiting: Sequence[Webhook], *, pause: float) -> list[Sent]:
        """Send and wait for every answer. `pause`: seconds from one webhook's time to the next one's."""
        sent: list[Sent] = []
        free = list(self._sockets)
        under_way: dict[int, Sent] = {}
        received: dict[int, bytes] = {}
        started = time.monotonic()
        while len(sent) < len(waiting) or under_way:
            left = 0.0
            while free and len(sent) < len(waiting):
                now = time.monotonic()
                left = started + len(sent) * pause - now
                if left > 0:
                    break
                number, webhook = free.pop(), waiting[len(sent)]
                received[number], under_way[number] = b"", Sent(webhook, now)
                sent.append(under_way[number])
                self._sockets[number].sendall(webhook.request)
            ready = self._poll.poll(left if left > 0 else PATIENCE)
            if not ready and left <= 0:
                raise Failed(f"no answer within {PATIENCE:.0f} s")
            for number, _ in ready:
                received[number] += self._sockets[number].recv(65536)
                answer = _whole(received[number])
                if answer is not None:
                    one = under_way.pop(number)
                    one.answered_at, one.answer = time.monotonic(), answer
                    free.append(number)
        return sent


def _whole(received: bytes) -> bytes | None:
    """The body of an answer that is there in full; None while it is not. Raises Failed for any status but 200."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        if not received:
            raise Failed("the server closed the connection")
        return None
    lowered = head.lower()
    length = int(lowered.partition(b"content-length:")[2].partition(b"\r\n")[0])
    if len(body) < length:
        return None
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise Failed(f"the webhook was answered with {head.decode(errors='replace')} {body.decode(errors='replace')}")
    return body


def _form(customer: str, business: str, text: str) -> dict[str, str]:
    """A message as Twilio's webhook brings it."""
    sid = f"SM{uuid.uuid4().hex}"
    return {
        "AccountSid": ACCOUNT,
        "ApiVersion": "2010-04-01",
        "Body": text,
        "From": customer,
        "MessageSid": sid,
        "MessageType": "text",
        "NumMedia": "0",
        "NumSegments": "1",
        "ProfileName": "Ada",
        "SmsMessageSid": sid,
        "SmsSid": sid,
        "SmsStatus": "received",
        "To": business,
        "WaId": customer.removeprefix("whatsapp:+"),
    }


def _request(form: dict[str, str], signature: str) -> bytes:
    body = urlencode(form).encode()
    head = (
        "POST /whatsapp HTTP/1.1",
        "Host: webhook.example",
        "User-Agent: TwilioProxy/1.1",
        "Accept: */*",
        "Content-Type: application/x-www-form-urlencoded; charset=UTF-8",
        f"Content-Length: {len(body)}",
        f"X-Twilio-Signature: {signature}",
        "I-Twilio-Idempotency-Token: " + uuid.uuid4().hex,
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body
