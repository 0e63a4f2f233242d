"""The engine between scripted vendors, in one thread: at every step of a message's path something else can happen.

A process of an install is a `Process`; its path runs on a database and on vendors that tell `Moments` where it has come
to, and whatever a test has planned for that moment is done there: the process dies, the database is away, another
worker takes over, the customer writes on, an operator resets the thread.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, select

from chatbotctl.core.adapters.memory_cache import MemoryCache
from chatbotctl.core.errors import AssistantError, MessengerError, StorageUnavailable
from chatbotctl.core.flow.services import Services
from chatbotctl.core.flow.waiting import Waiters
from chatbotctl.core.records.assistant import Answer, Question
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Line
from chatbotctl.core.records.turn import SentMessage, TurnState
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import Database


class Moment(enum.StrEnum):
    """Where a process has come to on a message's path."""

    #: About to begin a transaction: nothing of it is stored.
    READS = "reads"
    WRITES = "writes"
    #: A transaction is committed, and the process knows nothing of it yet.
    COMMITTED = "committed"
    #: The assistant is being asked, and has not answered.
    ASKED = "asked"
    #: It has answered, and keeps its conversation; the process has not heard it.
    ANSWERED = "answered"
    #: WhatsApp is being asked to send, and has not taken the message.
    SENDING = "sending"
    #: It has taken it; the process has not heard it.
    SENT = "sent"


class Killed(BaseException):
    """The process ends here: nothing catches it, and nothing of the process goes on."""


@dataclass
class Moments:
    """Counts how often each moment comes, and does what is planned for one of them."""

    _planned: list[tuple[Moment, int, Callable[[], None]]] = field(default_factory=list)
    _seen: dict[Moment, int] = field(default_factory=lambda: defaultdict(int))
    _busy: bool = False

    @contextmanager
    def planned(self, plans: Sequence[tuple[Moment, int, Callable[[], None]]]) -> Iterator[None]:
        """For the length of the block: at the nth (from 1) of these moments, do this."""
        before = self._planned, self._seen
        self._planned, self._seen = list(plans), defaultdict(int)
        try:
            yield
        finally:
            self._planned, self._seen = before

    def come(self, moment: Moment) -> None:
        """The process has come to this moment; what is done at one is not itself interrupted."""
        if self._busy or not self._planned:
            return
        self._seen[moment] += 1
        for plan in [plan for plan in self._planned if plan[:2] == (moment, self._seen[moment])]:
            self._planned.remove(plan)
            self._busy = True
            try:
                plan[2]()
            finally:
                self._busy = False


class QuickDatabase(Database):
    """A database whose commits need not outlive a power cut: no process of these tests really ends."""

    def __init__(self, url: str) -> None:
        super().__init__(url, pool_size=4)

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        with super().write(durable=False) as tx:
            yield tx


class WatchedDatabase(QuickDatabase):
    """It tells when transactions begin and end; what happens then happens outside of them."""

    def __init__(self, url: str, moments: Moments) -> None:
        super().__init__(url)
        self._moments = moments

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        self._moments.come(Moment.WRITES)
        with super().write(durable=durable) as tx:
            yield tx
        self._moments.come(Moment.COMMITTED)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._moments.come(Moment.READS)
        with super().read() as tx:
            yield tx


@dataclass
class Provider:
    """The AI provider of every business: it numbers its answers, and keeps the conversations that are held there."""

    database: Database
    moments: Moments
    conversations: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    answers: int = 0
    #: Questions of turns whose reply was stored already. Not raised: a worker takes any fault for one of its own.
    asked_in_vain: list[str] = field(default_factory=list)

    def check(self, *, business: Business) -> None:
        """Every business can be answered for."""

    def start_thread(
        self, *, business: Business, customer_hash: str, transcript: Sequence[Line], timeout: float
    ) -> str:
        handle = f"conv_{len(self.conversations) + 1}"
        self.conversations[handle] = []
        return handle

    def ask(self, *, question: Question) -> Answer:
        with self.database.read() as tx:
            state = tx.scalar(select(tables.turns.c.state).where(tables.turns.c.id == question.turn_id))
        if state != TurnState.OPEN:
            self.asked_in_vain.append(f"turn {question.turn_id} is {state}")
        self.moments.come(Moment.ASKED)
        self.answers += 1
        text = answer_to(question.text, self.answers)
        if not question.business.tells_history:
            self.conversations[question.ai_thread].append((question.text, text))
        self.moments.come(Moment.ANSWERED)
        return Answer(text=text)

    def look_back(self, *, question: Question) -> Answer | None:
        said = [] if question.business.tells_history else self.conversations[question.ai_thread]
        return Answer(text=said[-1][1]) if said and said[-1][0] == question.text else None


def answer_to(text: str, number: int) -> str:
    """The provider's answer number `number`: one of its kind, of two parts where the customer asks for much."""
    words = " ".join(text.split())
    if "much" not in words:
        return f"a{number} to {words}"
    return f"a{number} to {words} {'so ' * 400}\n\na{number} and {'on ' * 400}"


@dataclass(frozen=True)
class Accepted:
    """A message that WhatsApp took."""

    sid: str
    sender: str
    recipient: str
    body: str


@dataclass
class WhatsApp:
    """Everybody's messenger, and the list of what it took."""

    moments: Moments
    accepted: list[Accepted] = field(default_factory=list)

    def send(self, *, sender: str, recipient: str, body: str) -> SentMessage:
        self.moments.come(Moment.SENDING)
        message = Accepted(f"SM{len(self.accepted) + 1}", sender, recipient, body)
        self.accepted.append(message)
        self.moments.come(Moment.SENT)
        return SentMessage(sid=message.sid, status="queued")

    def find(self, *, sender: str, recipient: str, body: str, since: float) -> list[SentMessage]:
        found = [
            each for each in self.accepted if (each.sender, each.recipient, each.body) == (sender, recipient, body)
        ]
        return [SentMessage(sid=each.sid, status="queued") for each in reversed(found)]


@dataclass
class Process:
    """One process of the install: its worker's name, and services with a cache and waiters of its own."""

    name: str
    services: Services


def process(name: str, services: Services, database: Database, provider: Any, whatsapp: Any) -> Process:
    """A process like that of `services`, on a watched database and between the scripted vendors."""
    return Process(
        name,
        replace(
            services,
            database=database,
            cache=MemoryCache(),
            waiters=Waiters(),
            assistant_of=lambda _: provider,
            messenger_of=lambda _: whatsapp,
        ),
    )


# what can happen at a moment


def die() -> None:
    """kill -9."""
    raise Killed


def database_away() -> None:
    """The transaction cannot be begun; or its commit went through, and the answer was lost."""
    raise StorageUnavailable


def answer_lost() -> None:
    """The provider takes too long, or breaks off: it may have answered."""
    raise AssistantError("Too long.", reason="timeout", retryable=True, unknown_outcome=True)


def provider_refuses() -> None:
    """The provider answers with an error."""
    raise AssistantError("No.", reason="400")


def twilio_busy() -> None:
    """429: surely not taken."""
    raise MessengerError("Busy.", reason="20429", retryable=True)


def twilio_refuses() -> None:
    """The 24-hour window is closed, say."""
    raise MessengerError("Closed.", reason="63016")


def twilio_unclear() -> None:
    """500, a timeout or a reset: taken, when it comes after that, or not."""
    raise MessengerError("Unclear.", reason="20500", retryable=True, unknown_outcome=True)


#: What a vendor or the database does at a moment, and where it makes a difference that the process ends.
FAULTS: dict[Moment, tuple[Callable[[], None], ...]] = {
    Moment.READS: (database_away,),
    Moment.WRITES: (database_away,),
    Moment.COMMITTED: (die, database_away),
    Moment.ASKED: (die, answer_lost, provider_refuses),
    Moment.ANSWERED: (die, answer_lost),
    Moment.SENDING: (die, twilio_busy, twilio_refuses, twilio_unclear),
    Moment.SENT: (die, twilio_unclear),
}
