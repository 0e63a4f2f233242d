"""What the flow needs from the outside world: small Protocols, keyword-only, with our own records in and out.

An adapter (core/adapters; a vendor's files share its prefix) implements one of them and maps its vendor's errors to the
error named here, once, with `raise ... from`. Nothing else of a vendor may show: not its types, not its exceptions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from chatbotctl.core.records.assistant import Answer, Question, Translation
from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import CachedThread, Due, Line
from chatbotctl.core.records.slack import Place, Post
from chatbotctl.core.records.turn import SentMessage


class Assistant(Protocol):
    """An AI backend that answers for businesses. Safe to call from many threads.

    `check` raises AssistantNotUsable. The others raise AssistantError, or AssistantNotUsable where `check` would have.
    """

    def check(self, *, business: Business) -> None:
        """Raise AssistantNotUsable, saying what is missing, unless `business` could be answered for. Asks nobody."""
        ...

    def start_thread(
        self, *, business: Business, customer_hash: str, transcript: Sequence[Line], timeout: float
    ) -> str:
        """Make a new conversation at the provider, seeded with `transcript` (oldest first; its last 20 lines).

        Returns its handle (`ai_thread`), up to 120 characters. Backends that keep nothing make up a unique one.
        `timeout` is in seconds.
        """
        ...

    def ask(self, *, question: Question) -> Answer:
        """Ask once, without any retry of its own, within `question.timeout` seconds.

        Raises ThreadGone when the provider does not know `question.ai_thread` (also when the handle is another
        backend's), AssistantError(retryable=...) for everything else, an empty answer included.
        """
        ...

    def look_back(self, *, question: Question) -> Answer | None:
        """The answer that stands in the provider's conversation right behind this very question, if there is one.

        For after a call whose outcome is unknown. None where the provider keeps no conversation. Raises as `ask`.
        """
        ...


class Messenger(Protocol):
    """Sends WhatsApp messages. Safe to call from many threads. Raises MessengerError only."""

    def send(self, *, sender: str, recipient: str, body: str) -> SentMessage:
        """Send one message of 1 to 1,600 characters, once, without any retry of its own.

        MessengerError says `retryable` when another attempt may get through, and beside it `unknown_outcome` when this
        one may have: then `find` comes before the next.
        """
        ...

    def find(self, *, sender: str, recipient: str, body: str, since: float) -> list[SentMessage]:
        """Messages with exactly this text that were accepted at about `since` (seconds since 1970) or later.

        Newest first; the list may be some seconds behind. Two clocks never agree: what was accepted a little earlier
        than `since` is among them.
        """
        ...


class Mirror(Protocol):
    """A Slack workspace. Called by one thread per channel at a time. Raises MirrorError only."""

    def open_channel(self, *, name: str, topic: str, invite: Sequence[str]) -> str:
        """Make a channel with a valid, unique name near `name`, set its topic, invite the users; returns its id."""
        ...

    def post(self, *, place: Place, post: Post) -> str:
        """Post once; returns the message's `ts`. Mends what it can (unarchive, rejoin) and tries again once.

        Raises MirrorError with reason `channel_gone` when the channel must be made anew.
        """
        ...


class Translator(Protocol):
    """Translates plain text. Safe to call from many threads. Raises TranslationError only."""

    def translate(self, *, text: str, target_language: str) -> Translation:
        """Translate `text` into `target_language` (BCP 47); the answer names the language it was in."""
        ...


class ThreadCache(Protocol):
    """Remembers which provider conversation belongs to a sender and a receiver.

    Never raises on the message's path: `get`, `put` and `remove` treat an unreachable store as empty, wait at most a
    fraction of a second and then stop asking for a while. `scan` (upkeep only) raises OutsideError when unreachable.
    """

    def get(self, *, sender: str, receiver: str) -> CachedThread | None:
        """The entry, or None when there is none or the store is out of reach."""
        ...

    def put(self, *, entries: Iterable[CachedThread]) -> int:
        """Write entries over what is there, in pipelined batches; returns how many the store took."""
        ...

    def remove(self, *, keys: Sequence[str]) -> int:
        """Remove entries by key; returns how many were there."""
        ...

    def scan(self, *, keys_only: bool = False) -> Iterator[tuple[str, CachedThread | None]]:
        """Every key that looks like ours with its entry; None when what is stored under it is not readable as one.

        Arguments:
            keys_only: do not read the entries (all None), which is several times as fast.
        """
        ...


class Wakeup(Protocol):
    """Tells workers that a conversation is due. Never raises, never waits, may lose a call: the sweeper finds that."""

    def wake(self, *, due: Due, delay: float) -> None:
        """Ask for a conversation to be looked at in `delay` seconds."""
        ...

    def listen(self, *, handler: Callable[[Due], bool]) -> None:
        """Call `handler(due)` for every wake-up from now on, on a thread of its own; it says whether it had room."""
        ...

    def close(self) -> None:
        """Stop calling the handler; pending wake-ups are dropped."""
        ...


class SignatureCheck(Protocol):
    """Checks Twilio's webhook signatures for one auth token. Never raises."""

    def accepts(self, *, url: str, fields: Sequence[tuple[str, str]] | None, body: str, signature: str | None) -> bool:
        """Whether `signature` is right for `url` with a form's `fields`, or, when None, with the JSON `body`."""
        ...

    def sign(self, *, url: str, fields: Sequence[tuple[str, str]]) -> str:
        """The signature Twilio would send for a form (used to post test webhooks)."""
        ...


class KnowledgeStore(Protocol):
    """A provider's file store that an assistant searches. Raises AssistantError only."""

    def ensure_store(self, *, name: str, store_id: str | None) -> str:
        """The id of the store: `store_id` when the provider still has it, else a new one called `name`."""
        ...

    def upload(self, *, store_id: str, filename: str, content: bytes) -> str:
        """Upload a file and attach it to the store; returns the provider's file id once it is indexed."""
        ...

    def remove(self, *, store_id: str, file_id: str) -> None:
        """Take a file out of the store and delete it; a file that is gone already is fine."""
        ...
