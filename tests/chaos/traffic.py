"""Customers who write, and Twilio in front of them: signed webhooks, sent again elsewhere when nobody took one.

What was answered to each copy of each message, by whom and when, is kept: what was acknowledged is what the install
has to stand by.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import requests

from tests.acceptance.install import wait_for
from tests.chaos.cluster import Cluster, Member
from tests.chaos.world import TENANTS, Tenant, question

#: Seconds that Twilio waits for a connection, and for an answer.
CONNECT_SECONDS, READ_SECONDS = 5.0, 15.0
#: Seconds within which Twilio has sent all copies of a webhook that it ever sends.
TWILIO_SECONDS = 15.0
#: Seconds between copies when no process takes one.
PAUSE_SECONDS = 0.3
#: A message of so many begins a burst, and so many are in it.
BURST_EVERY, BURST = 12, 3
#: Seconds between the messages of a burst.
BURST_SECONDS = 0.05
#: A message of so many is answered in several parts.
LONG_EVERY, LONG_PARTS = 5, 3
#: Conversations that the load leaves alone, and where their customers' numbers begin.
SPARE, SPARE_FROM = 60, 10_000


@dataclass(frozen=True)
class Try:
    """One copy of a webhook, and what came of it. Times are time.time()."""

    member: str
    began: float
    ended: float
    #: None: no answer at all.
    status: int | None
    #: The answer's body, or what went wrong.
    said: str

    @property
    def is_ack(self) -> bool:
        """Whether Twilio takes the message for delivered."""
        return self.status is not None and 200 <= self.status < 300


@dataclass
class Message:
    """One customer's message and the copies of it that were sent."""

    sid: str
    tenant: Tenant
    customer: str
    parts: int
    tries: list[Try] = field(default_factory=list)

    @property
    def conversation(self) -> tuple[str, str]:
        """Whose it is: the business's number and the customer's."""
        return (self.tenant.number, self.customer)

    @property
    def acknowledged(self) -> Try | None:
        """The first 2xx."""
        return next((each for each in self.tries if each.is_ack), None)

    @property
    def is_late(self) -> bool:
        """Whether Twilio would have given up before it was acknowledged."""
        first = self.acknowledged
        return first is None or first.ended - self.tries[0].began > TWILIO_SECONDS


class Traffic:
    """Sends messages of many conversations, at a rate, until it is told to stop or has sent enough.

    Arguments:
        conversations: how many customers write (each to every business in turn).
        rate: messages a second; 0: only what `send` is told.
        patience: seconds for which copies of a message are sent. Longer than Twilio's: what would have been lost to
            Twilio is counted, and sent on, because a copy that comes late must find the first one all the same.
    """

    def __init__(
        self, cluster: Cluster, rng: random.Random, *, conversations: int, rate: float, patience: float = 60.0
    ) -> None:
        self._cluster = cluster
        self._rng = rng
        self._rate = rate
        self._patience = patience
        self.messages: list[Message] = []
        self._idle = _pairs(0, conversations)
        #: What `send` writes in: the load must not keep it waiting. Without a load, all of them.
        self._spare = _pairs(SPARE_FROM, SPARE) if rate else self._idle
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(256, thread_name_prefix="customer")
        self._thread = threading.Thread(target=self._run, name="traffic")
        #: Moments at which every conversation was busy: the rate was not reached.
        self.held_up = 0
        self._broken: list[BaseException] = []

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Send no new message, and wait for those under way."""
        self._stopping.set()
        self._thread.join()
        self._pool.shutdown(wait=True)
        assert not self._broken, f"the sender itself broke: {self._broken[0]!r}"

    def send(self, count: int = 1, *, parts: int = 1) -> list[Message]:
        """Send so many messages now, of as many conversations at once, and wait until each is through."""
        return self.begin(count, parts=parts).result()

    def begin(self, count: int, *, parts: int = 1) -> Future[list[Message]]:
        """The same, without waiting for them; in conversations that the load does not write in."""
        return self.begin_bursts([(parts,)] * count)

    def begin_bursts(self, bursts: Sequence[Sequence[int]]) -> Future[list[Message]]:
        """Send, now, a burst in as many conversations, those that have rested longest, without waiting for them.

        Arguments:
            bursts: of each message of a burst, in how many parts it is answered.
        """
        wait_for(f"{len(bursts)} idle conversations", lambda: len(self._spare) >= len(bursts))
        taken = [self._spare.pop(0) for _ in bursts]
        writing = [
            [self._new(*conversation, parts) for parts in burst]
            for conversation, burst in zip(taken, bursts, strict=True)
        ]

        def send() -> list[Message]:
            with ThreadPoolExecutor(len(bursts)) as pool:
                list(pool.map(self._burst, writing))
            self._spare.extend(taken)
            return [message for messages in writing for message in messages]

        return self._pool.submit(send)

    def _run(self) -> None:
        if self._rate == 0:
            return
        due = time.monotonic()
        while not self._stopping.is_set():
            with self._lock:
                taken = self._idle.pop(self._rng.randrange(len(self._idle))) if self._idle else None
            if taken is None:
                self.held_up += 1
            else:
                count = BURST if self._rng.randrange(BURST_EVERY) == 0 else 1
                parts = LONG_PARTS if self._rng.randrange(LONG_EVERY) == 0 else 1
                self._pool.submit(self._converse, taken, [self._new(*taken, parts) for _ in range(count)])
                due += (count - 1) / self._rate
            due += 1 / self._rate
            self._stopping.wait(max(0.0, due - time.monotonic()))
            # What was missed while this thread could not run is not made up for all at once.
            due = max(due, time.monotonic() - 1.0)

    def _new(self, tenant: Tenant, customer: str, parts: int) -> Message:
        message = Message(f"SM{self._rng.getrandbits(128):032x}", tenant, customer, parts)
        self.messages.append(message)
        return message

    def _converse(self, conversation: tuple[Tenant, str], messages: list[Message]) -> None:
        """Send the messages of one conversation; then others may write in it."""
        self._burst(messages)
        with self._lock:
            self._idle.append(conversation)

    def _burst(self, messages: list[Message]) -> None:
        """Send the messages of one conversation, shortly after each other, and wait until each is through."""
        senders = [threading.Thread(target=self._guarded, args=(message,)) for message in messages]
        for number, sender in enumerate(senders):
            if number:
                time.sleep(BURST_SECONDS)
            sender.start()
        for sender in senders:
            sender.join()

    def _guarded(self, message: Message) -> None:
        try:
            self._deliver(message)
        except BaseException as error:
            self._broken.append(error)

    def _deliver(self, message: Message) -> None:
        end = time.monotonic() + self._patience
        doors = self._cluster.doors
        first = self._rng.randrange(len(doors))
        number = 0
        while True:
            made = self._try(message, doors[(first + number) % len(doors)])
            message.tries.append(made)
            # A 503 says that nothing is stored; no answer says nothing. Anything else is an answer for good.
            if made.status not in (None, 503) or time.monotonic() >= end:
                break
            number += 1
            if number % len(doors) == 0:
                time.sleep(PAUSE_SECONDS)

    def _try(self, message: Message, member: Member) -> Try:
        form = {
            "From": message.customer,
            "To": message.tenant.number,
            "Body": question(message.sid, parts=message.parts, canary=message.tenant.canary),
            "MessageSid": message.sid,
            "NumMedia": "0",
        }
        began = time.time()
        try:
            answer = self._cluster.install.post(member, form, timeout=(CONNECT_SECONDS, READ_SECONDS))
        except requests.RequestException as error:
            return Try(member.name, began, time.time(), None, type(error).__name__)
        return Try(member.name, began, time.time(), answer.status_code, answer.text)


def _pairs(start: int, count: int) -> list[tuple[Tenant, str]]:
    """So many conversations: each customer writes to every business."""
    return [
        (TENANTS[number % len(TENANTS)], f"whatsapp:+1555765{number // len(TENANTS):04d}")
        for number in range(start, start + count)
    ]
