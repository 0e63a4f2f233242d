"""A whole install for a test: a migrated database, settings given as flags, the vendors' fakes as its outside world.

`install` yields the Core that commands and server work with; `add_business` and `message` make what most tests need.
`work` runs turns in the test's own thread; `running` does it as `serve` does, on threads of a Worker and a SlackPoster.
"""

from __future__ import annotations

import atexit
import itertools
import pkgutil
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatbotctl.core import config
from chatbotctl.core.config import Key
from chatbotctl.core.errors import StorageUnavailable
from chatbotctl.core.flow.accept import Accepted, accept
from chatbotctl.core.flow.slack_poster import SlackPoster, post_all
from chatbotctl.core.flow.worker import Worker, work_once
from chatbotctl.core.records.business import Backend, Business
from chatbotctl.core.records.message import InboundMessage, Outcome
from chatbotctl.core.storage import businesses, migrate, outcomes
from chatbotctl.core.storage.engine import Database
from chatbotctl.core.wiring import Core
from tests import services
from tests.fakes.google_server import FakeGoogleTranslate
from tests.fakes.openai_server import FakeOpenAI
from tests.fakes.slack_server import FakeSlack
from tests.fakes.twilio_server import ACCOUNT, TOKEN, FakeTwilio

if TYPE_CHECKING:
    import pytest

BUSINESS = "whatsapp:+15550001111"
CUSTOMER = "whatsapp:+15552220000"
#: Everything quick: no burst window, no pause between posts, one attempt where a test does not ask for more.
QUICK: dict[Key, object] = {
    ("worker", "quiet_seconds"): 0,
    ("worker", "sweep_seconds"): 0.05,
    ("worker", "concurrency"): 8,
    ("openai", "model"): "gpt-test",
    ("openai", "attempts"): 1,
    ("twilio", "attempts"): 1,
    ("twilio", "lookup_wait_seconds"): 0,
    ("slack", "posts_per_second"): 1000,
}

_serial = itertools.count(1)


@dataclass(frozen=True)
class Vendors:
    """The fakes that an install talks to; None: it is not set up with that vendor."""

    openai: FakeOpenAI | None = None
    twilio: FakeTwilio | None = None
    slack: FakeSlack | None = None
    google: FakeGoogleTranslate | None = None

    def flags(self) -> dict[Key, object]:
        """The settings that point an install at them."""
        flags: dict[Key, object] = {}
        if self.openai is not None:
            flags |= {("openai", "api_key"): "sk-test", ("openai", "base_url"): self.openai.base_url}
            flags |= {("openai", "beta_base_url"): self.openai.base_url}
        if self.twilio is not None:
            flags |= {("twilio", "account_sid"): ACCOUNT, ("twilio", "auth_token"): TOKEN}
            flags |= {("twilio", "api_base_url"): self.twilio.url}
        if self.slack is not None:
            flags |= {("slack", "bot_token"): "xoxb-test", ("slack", "api_base_url"): self.slack.api_url}
        if self.google is not None:
            flags |= {("translate", "enabled"): True, ("translate", "endpoint"): self.google.url}
        return flags


@contextmanager
def install(
    vendors: Vendors = Vendors(),
    *,
    flags: Mapping[Key, object] | None = None,
    database_url: str | None = None,
    redis_url: str | None = None,
    print_unsent: Callable[[str], None] | None = None,
) -> Iterator[Core]:
    """A Core on a migrated database; without `database_url` on SQLite in the test's CHATBOTCTL_HOME."""
    given: dict[Key, object] = {**QUICK, **vendors.flags()}
    if database_url is not None:
        given["database", "url"] = database_url
    if redis_url is not None:
        given["redis", "url"] = redis_url
    core = Core(config.load(flags={**given, **(flags or {})}))
    if print_unsent is not None:
        core.print_unsent(print_unsent)
    try:
        migrate.upgrade(core.database)
        yield core
    finally:
        core.close()


def sqlite_database(folder: Path) -> str:
    """The URL of a migrated SQLite database of its own: a copy, because migrating each time takes longer."""
    path = folder / f"store-{next(_serial)}.db"
    shutil.copyfile(_migrated_sqlite(), path)
    return f"sqlite:///{path}"


def migrate_database(url: str) -> None:
    """Bring an empty database's schema up to date."""
    database = Database(url)
    migrate.upgrade(database)
    database.close()


def empty_postgres(url: str) -> None:
    """Take every row out of a migrated PostgreSQL database, and begin numbering anew."""
    with services.administrator(url) as cursor:
        cursor.execute("TRUNCATE businesses, clients RESTART IDENTITY CASCADE")


def add_business(
    where: Core | Database,
    name: str = "bakery",
    number: str = BUSINESS,
    *,
    slack_users: Sequence[str] = (),
    **values: Any,
) -> Business:
    """A business, answered by `openai` unless `backend` says otherwise; `values` as in the record."""
    database = where.database if isinstance(where, Core) else where
    with database.write() as tx:
        given = {"backend": Backend.OPENAI.value, "slack_user_ids": tuple(slack_users), **values}
        return businesses.add(tx, name=name, whatsapp_address=number, values=given)


def message(
    body: str = "Do you have bread?",
    *,
    sid: str | None = None,
    sender: str = CUSTOMER,
    receiver: str = BUSINESS,
    **fields: Any,
) -> InboundMessage:
    """A customer's message, with a MessageSid of its own unless one is given."""
    return InboundMessage(sid=sid or f"SM{next(_serial):032x}", sender=sender, receiver=receiver, body=body, **fields)


def take_in(core: Core, body: str = "Do you have bread?", **fields: Any) -> Accepted:
    """Accept a message and do nothing more about it."""
    return accept(core.services, message(body, **fields))


def work(core: Core, conversation_id: int, *, owner: str = "test") -> float | None:
    """Run the conversation's turns for as long as one is due at once; returns when the next one is."""
    while (wait := work_once(core.services, conversation_id, owner=owner)) == 0.0:
        pass
    return wait


def answer(core: Core, body: str = "Do you have bread?", **fields: Any) -> Outcome:
    """Take a message in, run its turn, and say what became of it."""
    accepted = take_in(core, body, **fields)
    work(core, accepted.conversation_id)
    return outcome(core, accepted)


def outcome(core: Core, accepted: Accepted) -> Outcome:
    """How a message stands."""
    with core.database.read() as tx:
        found = outcomes.of_message(tx, accepted.sid)
    assert found is not None
    return found


def post_to_slack(core: Core, conversation_id: int) -> None:
    """Post all that Slack is owed of a conversation."""
    assert post_all(core.services, conversation_id=conversation_id, seconds=20), "Slack took too long"


@contextmanager
def running(core: Core, *, slack: bool = False) -> Iterator[Worker]:
    """A worker, and with `slack` a poster too, at work as `serve` has them."""
    worker, poster = Worker(core.services), SlackPoster(core.services)
    worker.start()
    if slack:
        poster.start()
    try:
        yield worker
    finally:
        worker.drain(20)
        poster.drain(20)


def eventually(condition: Callable[[], object], *, seconds: float = 20.0) -> None:
    """Wait until `condition` holds; `seconds` only bounds how long a broken test hangs."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.01)


def away_for_a_moment(monkeypatch: pytest.MonkeyPatch, writer: str, *, times: int = 2) -> None:
    """The database is away the next `times` that this function (its dotted name) writes."""
    monkeypatch.setattr("chatbotctl.core.flow.keep_writing.PAUSE_SECONDS", 0.01)
    module, name = writer.rsplit(".", 1)
    write = getattr(pkgutil.resolve_name(module), name)
    left = iter(range(times))

    def flaky(*args: Any, **options: Any) -> Any:
        if next(left, None) is not None:
            raise StorageUnavailable
        return write(*args, **options)

    monkeypatch.setattr(writer, flaky)


@lru_cache
def _migrated_sqlite() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="chatbotctl-sqlite-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # Closing its last connection writes the log back into the file: a copy is whole.
    migrate_database(f"sqlite:///{folder / 'template.db'}")
    return folder / "template.db"
