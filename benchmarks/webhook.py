"""From webhook to reply: `chatbotctl serve` with an assistant that takes no time, beside a bare Flask application.

Both servers are up; a bounded number of clients talks to one after the other, each client sending its next message
when the last one was answered. The bare server makes one durable insert per request into the same kind of store.
Twilio and OpenAI are loopback fakes in this process, so that one clock times the message and its reply.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from benchmarks import measuring
from benchmarks.measuring import BARE, Failed, Figure, Report, percentile
from chatbotctl.core.adapters.twilio_signature import TwilioSignature
from chatbotctl.core.storage import businesses, migrate
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.upkeep.demo import ADDRESS, add_demo
from tests import services
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.twilio_server import ACCOUNT, TOKEN, FakeTwilio

#: Makes a form's signature.
Sign = Callable[[dict[str, str]], str]
#: Customers whose messages one client sends in turn.
CUSTOMERS = 25
#: Seconds that the last replies are waited for.
REPLY_SECONDS = 60.0


@dataclass(frozen=True)
class Webhook:
    """One request, ready to be sent."""

    customer: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Sent:
    """One request that was answered; times are time.monotonic()'s."""

    customer: str
    at: float
    answered_at: float


@dataclass
class Times:
    """What was measured of one server with one number of clients, over all rounds."""

    #: Seconds until the webhook was answered.
    answered: list[float] = field(default_factory=list)
    #: Seconds until Twilio was asked to send the reply; of the bare server, which sends none, the same as `answered`.
    replied: list[float] = field(default_factory=list)
    #: Messages per second of each round, until all were answered and replied to.
    rates: list[float] = field(default_factory=list)

    def add(self, sent: Sequence[Sent], replied_at: Sequence[float]) -> None:
        """Add one round: what was sent, and when the reply to each left."""
        self.answered.extend(one.answered_at - one.at for one in sent)
        self.replied.extend(at - one.at for one, at in zip(sent, replied_at, strict=True))
        last = max(*replied_at, *(one.answered_at for one in sent))
        self.rates.append(len(sent) / (last - min(one.at for one in sent)))


class Ours:
    """`chatbotctl serve` on one database, with its fakes."""

    def __init__(self, twilio: FakeTwilio, port: int) -> None:
        self._twilio = twilio
        self._port = port
        self._signature = TwilioSignature(TOKEN)

    def round(self, messages: int, clients: int, times: Times | None = None) -> None:
        """Have the messages sent and answered, and wait for the replies. Raises Failed when one is missing."""
        url = f"http://127.0.0.1:{self._port}/whatsapp"
        shares = _shares(messages, clients, lambda form: self._signature.sign(url=url, fields=list(form.items())))
        before = len(self._twilio.seen("Messages", "POST"))
        sent = _send_all(self._port, shares)
        end = time.monotonic() + REPLY_SECONDS
        while len(replies := self._twilio.seen("Messages", "POST")[before:]) < messages and time.monotonic() < end:
            time.sleep(0.01)
        if len(replies) != messages:
            raise Failed(f"{messages} messages, but {len(replies)} replies")
        # A customer's replies leave in the order of the messages.
        by_customer: dict[str, deque[float]] = defaultdict(deque)
        for reply in replies:
            by_customer[reply.form["To"]].append(reply.at)
        if times is not None:
            times.add(sent, [by_customer[one.customer].popleft() for one in sent])


class Bare:
    """The bare server."""

    def __init__(self, port: int) -> None:
        self._port = port

    def round(self, messages: int, clients: int, times: Times | None = None) -> None:
        """Have the messages sent and answered."""
        sent = _send_all(self._port, _shares(messages, clients, lambda _: "unsigned"))
        if times is not None:
            times.add(sent, [one.answered_at for one in sent])


def measure(*, messages: int, clients: int, rounds: int, backend: str) -> list[Report]:
    """Measure both servers on both stores, with one client and with `clients`.

    Arguments:
        messages: sent to each server in a round.
        backend: the business's assistant: `chat` (over HTTP, a loopback fake) or `knowledge` (inside the server).
    """
    reports: list[Report] = []
    for store, stores in (("SQLite", _sqlite_stores), ("PostgreSQL", _postgres_stores)):
        with tempfile.TemporaryDirectory(prefix="chatbotctl-bench-") as temporary:
            folder = Path(temporary)
            with stores(folder) as (ours_url, bare_url):
                _set_up(ours_url, backend)
                with _ours(ours_url, folder) as ours, _bare(bare_url, folder) as bare:
                    measured = _in_turns(ours, bare, store, messages, sorted({1, clients}), rounds)
        reports.extend(
            _report(store, count, ours_times, bare_times, {"messages": messages, "rounds": rounds, "backend": backend})
            for count, (ours_times, bare_times) in measured.items()
        )
    return reports


def _in_turns(
    ours: Ours, bare: Bare, store: str, messages: int, counts: Sequence[int], rounds: int
) -> dict[int, tuple[Times, Times]]:
    measured = {count: (Times(), Times()) for count in counts}
    for server in (ours, bare):  # connections, statement caches, bytecode
        server.round(2 * max(counts), max(counts))
    for turn in range(rounds):
        measuring.note(f"webhook: {store}, round {turn + 1} of {rounds}")
        for count, (ours_times, bare_times) in measured.items():
            bare.round(messages, count, bare_times)
            ours.round(messages, count, ours_times)
    return measured


def _report(store: str, clients: int, ours: Times, bare: Times, conditions: dict[str, object]) -> Report:
    def latency(name: str, our_seconds: list[float], bare_seconds: list[float], percent: int) -> Figure:
        ours_ms, bare_ms = (percentile(seconds, percent) * 1000 for seconds in (our_seconds, bare_seconds))
        return Figure(f"{name}, p{percent}", "ms", ours_ms, bare_ms)

    return Report(
        title=f"webhook: chatbotctl serve on {store}, {clients} client{'s' if clients > 1 else ''}",
        bare="Flask and waitress, one durable insert per request",
        conditions={"clients": clients, **conditions},
        figures=[
            Figure("end to end", "messages/s", statistics.median(ours.rates), statistics.median(bare.rates)),
            latency("webhook to reply", ours.replied, bare.replied, 50),
            latency("webhook to reply", ours.replied, bare.replied, 99),
            latency("webhook answered", ours.answered, bare.answered, 50),
            latency("webhook answered", ours.answered, bare.answered, 99),
        ],
    )


@contextlib.contextmanager
def _sqlite_stores(folder: Path) -> Iterator[tuple[str, str]]:
    yield f"sqlite:///{folder / 'ours.db'}", f"sqlite:///{folder / 'bare.db'}"


@contextlib.contextmanager
def _postgres_stores(folder: Path) -> Iterator[tuple[str, str]]:
    with services.postgres_server() as server:
        if "TEST_DATABASE_URL" not in os.environ:
            # Tests need not survive a power cut; what is measured here is durable commits.
            with services.administrator(server) as cursor:
                cursor.execute("ALTER SYSTEM SET fsync = on")
                cursor.execute("SELECT pg_reload_conf()")
        with services.fresh_database(server) as ours_url, services.fresh_database(server) as bare_url:
            yield ours_url, bare_url


def _set_up(url: str, backend: str) -> None:
    """Tables and one business."""
    database = Database(url)
    try:
        migrate.upgrade(database)
        business = add_demo(database)
        with database.write() as tx:
            businesses.change(tx, business, {"backend": backend, "model": "gpt-test"})
    finally:
        database.close()


@contextlib.contextmanager
def _ours(url: str, folder: Path) -> Iterator[Ours]:
    port = measuring.free_port()
    with FakeTwilio() as twilio, FakeOpenAI() as openai:
        environment = measuring.environment(
            CHATBOTCTL_HOME=str(folder),
            CHATBOTCTL_WORKER__QUIET_SECONDS="0",
            DATABASE_URL=url,
            PUBLIC_URL=f"http://127.0.0.1:{port}",
            TWILIO_ACCOUNT_SID=ACCOUNT,
            TWILIO_AUTH_TOKEN=TOKEN,
            TWILIO_API_BASE_URL=twilio.url,
            OPENAI_API_KEY="sk-test",
            OPENAI_BASE_URL=openai.base_url,
        )
        command = [sys.executable, "-m", "chatbotctl", "serve", "--port", str(port)]
        with measuring.serving(command, port=port, environment=environment, folder=folder):
            yield Ours(twilio, port)


@contextlib.contextmanager
def _bare(url: str, folder: Path) -> Iterator[Bare]:
    port = measuring.free_port()
    command = [sys.executable, str(BARE / "webhook.py"), str(port), url]
    with measuring.serving(command, port=port, environment=measuring.environment(), folder=folder):
        yield Bare(port)


def _shares(messages: int, clients: int, sign: Sign) -> list[list[Webhook]]:
    """The messages, dealt out to the clients, which have customers of their own."""
    shares: list[list[Webhook]] = [[] for _ in range(clients)]
    for number in range(messages):
        client, place = number % clients, number // clients
        customer = f"whatsapp:+1555{client * CUSTOMERS + place % CUSTOMERS:07d}"
        shares[client].append(_webhook(customer, f"Do you deliver on Sundays? This is my question {number}.", sign))
    return shares


def _webhook(customer: str, text: str, sign: Sign) -> Webhook:
    """A message as Twilio's webhook brings it."""
    sid = f"SM{uuid.uuid4().hex}"
    form = {
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
        "To": ADDRESS,
        "WaId": customer.removeprefix("whatsapp:+"),
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Twilio-Signature": sign(form)}
    return Webhook(customer, urlencode(form).encode(), headers)


def _send_all(port: int, shares: list[list[Webhook]]) -> list[Sent]:
    """Have each client send its share; in the order in which each was sent by its client."""
    with ThreadPoolExecutor(len(shares)) as pool:
        return [sent for share in pool.map(functools.partial(_send, port), shares) for sent in share]


def _send(port: int, share: list[Webhook]) -> list[Sent]:
    """One client: one connection, one message after the other. Raises Failed for any answer but 200."""
    sent = []
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        for webhook in share:
            at = time.monotonic()
            connection.request("POST", "/whatsapp", webhook.body, webhook.headers)
            response = connection.getresponse()
            said = response.read()
            sent.append(Sent(webhook.customer, at, time.monotonic()))
            if response.status != 200:
                raise Failed(f"the webhook was answered with {response.status}: {said.decode(errors='replace')}")
    return sent
