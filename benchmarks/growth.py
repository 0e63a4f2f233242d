"""Taking in and claiming with many stored messages, beside an empty database: an install may not slow down as it ages.

Run inside this process, straight against the store, so that nothing else hides a difference. Each stored message has
its turn, its reply and an event, as life leaves them; they are made in SQL.
"""

from __future__ import annotations

import contextlib
import statistics
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import load, measuring, site
from benchmarks.measuring import Figure, Report
from chatbotctl.core.config import Loaded
from chatbotctl.core.flow.accept import accept
from chatbotctl.core.records.message import InboundMessage
from chatbotctl.core.records.turn import TurnState
from chatbotctl.core.settings import DatabaseSettings, Settings, WorkerSettings
from chatbotctl.core.storage import turns
from chatbotctl.core.wiring import Core

#: Messages of each stored conversation, and thereby how many conversations there are.
PER_CONVERSATION = 50
#: Messages that are taken in and claimed in each round.
MESSAGES = 300
#: Rows that are made in one statement.
BATCH = 250_000

_NUMBERS = {
    site.SQLITE: "(WITH RECURSIVE number(n) AS (SELECT {low} UNION ALL SELECT n + 1 FROM number WHERE n < {high})"
    " SELECT n FROM number) AS number",
    site.POSTGRES: "generate_series({low}, {high}) AS number(n)",
}
_CUSTOMERS = (
    """INSERT INTO clients (id, address) SELECT n, 'whatsapp:+1666' || (1000000 + n) FROM {numbers}""",
    """INSERT INTO business_clients (id, business_id, client_id, last_seq, done_seq, ai_thread)
       SELECT n, n % {businesses} + 1, n, {each}, {each}, 'conv_' || n FROM {numbers}""",
)
#: Message n is number (n - 1) / conversations + 1 of conversation (n - 1) % conversations + 1.
_MESSAGES = (
    """INSERT INTO inbound_messages (sid, conversation_id, seq, sender, body, kind, media, parameters)
       SELECT 'SM' || {hex}, {conversation}, {seq}, 'whatsapp:+1666' || (1000000 + {conversation}),
              'Do you deliver on Sundays?', 'text', '[]', '{{"Body": "Do you deliver on Sundays?"}}' FROM {numbers}""",
    """INSERT INTO turns (id, conversation_id, first_seq, upto_seq, state, reply, epoch)
       SELECT n, {conversation}, {seq}, {seq}, 'done', 'Yes, we do.', 0 FROM {numbers}""",
    """INSERT INTO outbound_messages (conversation_id, turn_id, author, sender, recipient, body, state, sid, epoch)
       SELECT {conversation}, n, 'assistant', 'whatsapp:+14440000000', 'whatsapp:+1666' || (1000000 + {conversation}),
              'Yes, we do.', 'sent', 'SM' || n, 0 FROM {numbers}""",
    """INSERT INTO events (conversation_id, kind, turn_id) SELECT {conversation}, 'sent', n FROM {numbers}""",
)
#: What a sid looks like: sids come in no order, so each lands somewhere else in its index.
_HEX = {site.SQLITE: "lower(hex(randomblob(16)))", site.POSTGRES: "md5(n::text)"}


@dataclass
class Times:
    """Seconds that each transaction took on one database."""

    taking: list[float] = field(default_factory=list)
    claiming: list[float] = field(default_factory=list)


def measure(*, sizes: Sequence[int], rounds: int, stores: Sequence[str] = (site.SQLITE, site.POSTGRES)) -> list[Report]:
    """Measure databases with so many stored messages beside an empty one, in turns."""
    return [_on(name, [size for size in sizes if size > 0], rounds) for name in stores]


def _on(name: str, sizes: Sequence[int], rounds: int) -> Report:
    measured = {size: Times() for size in (0, *sizes)}
    with contextlib.ExitStack() as stack:
        cores = {size: stack.enter_context(_filled(name, size)) for size in measured}
        for core in cores.values():
            _round(core, Times())
        for turn in range(rounds):
            measuring.note(f"growth: {name}, round {turn + 1} of {rounds}")
            for size, times in measured.items():
                _round(cores[size], times)
    figures = []
    for size in sizes:
        for what in ("taking", "claiming"):
            ours, empty = (statistics.median(getattr(measured[each], what)) * 1000 for each in (size, 0))
            figures.append(Figure(f"{what}, {size:,} messages, p50", "ms", ours, empty, "within 1.3"))
    return Report(
        title=f"growth: taking in and claiming on {name}",
        bare="an empty database",
        conditions={"messages in a round": MESSAGES, "rounds": rounds},
        figures=figures,
    )


@contextlib.contextmanager
def _filled(name: str, size: int) -> Iterator[Core]:
    """Core over a database with `size` stored messages."""
    with site.store(name, backend="knowledge") as store:
        settings = Settings(
            database=DatabaseSettings.model_validate({"url": store.url}), worker=WorkerSettings(quiet_seconds=0.0)
        )
        with contextlib.closing(Core(Loaded(settings=settings, home=Path(store.folder), origins={}))) as core:
            if size:
                _fill(core, name, size)
            yield core


def _fill(core: Core, name: str, size: int) -> None:
    conversations = max(1, size // PER_CONVERSATION)
    measuring.note(f"growth: filling {name} with {size:,} messages of {conversations:,} conversations")
    given = {
        "businesses": load.BUSINESSES,
        "each": PER_CONVERSATION,
        "hex": _HEX[name],
        "conversation": f"((n - 1) % {conversations} + 1)",
        "seq": f"((n - 1) / {conversations} + 1)",
    }
    for statements, rows in ((_CUSTOMERS, conversations), (_MESSAGES, size)):
        for statement in statements:
            for low in range(1, rows + 1, BATCH):
                numbers = _NUMBERS[name].format(low=low, high=min(low + BATCH - 1, rows))
                with core.database.engine.begin() as connection:
                    if name == site.POSTGRES:
                        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                    connection.exec_driver_sql(_escaped(name, statement.format(**given, numbers=numbers)))
    with core.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if name == site.POSTGRES:
            # What autovacuum does in time: the ids were given, and nothing is known of the new rows yet.
            connection.exec_driver_sql("SET statement_timeout = 0")
            for table in ("clients", "business_clients", "turns"):
                sequence = f"pg_get_serial_sequence('{table}', 'id')"
                connection.exec_driver_sql(f"SELECT setval({sequence}, (SELECT max(id) FROM {table}))")
            connection.exec_driver_sql("VACUUM ANALYZE")
            connection.exec_driver_sql("CHECKPOINT")
        else:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _round(core: Core, times: Times) -> None:
    """Take messages in, claim their conversations, and end the turns, which is not timed."""
    services = core.services
    conversations = []
    for number in range(MESSAGES):
        message = InboundMessage(
            sid=f"SM{uuid.uuid4().hex}",
            sender=f"whatsapp:+1666{1_000_001 + number:07d}",
            receiver=load.address((number + 1) % load.BUSINESSES),
            body="Do you deliver on Sundays?",
            parameters={"Body": "Do you deliver on Sundays?"},
        )
        started = time.perf_counter()
        accepted = accept(services, message)
        times.taking.append(time.perf_counter() - started)
        conversations.append(accepted.conversation_id)
    for conversation_id in conversations:
        started = time.perf_counter()
        with services.database.write() as tx:
            lease = turns.claim(tx, conversation_id, owner="benchmark", lease_seconds=15.0)
            assert lease is not None, "nobody else works here"
            turn = turns.open_turn(tx, lease, one_message=True)
        times.claiming.append(time.perf_counter() - started)
        with services.database.write() as tx:
            turns.finish(tx, turn, TurnState.DONE)


def _escaped(name: str, statement: str) -> str:
    """psycopg2 takes a % for a parameter's."""
    return statement.replace("%", "%%") if name == site.POSTGRES else statement
