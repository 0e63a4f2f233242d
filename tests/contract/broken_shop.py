"""A sound database with two conversations, and every way to make it wrong that `db check` knows of."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from chatbotctl.core.records.business import Business
from chatbotctl.core.records.conversation import Author
from chatbotctl.core.records.turn import SentMessage
from chatbotctl.core.storage import outbox, slack_posts, turns
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import Database, now
from chatbotctl.core.upkeep.check_database import findings
from chatbotctl.core.upkeep.database_findings import Finding
from chatbotctl.core.upkeep.repair_database import repair
from tests.contract import store
from tests.installs import add_business

#: What makes the database wrong -> what is found then, and what of it is left after a repair.
#: {a}, {b}: two conversations; of a: {turn}, {part}: its newest turn and what it sent, {post}: what Slack is owed;
#: {of_b}: a message of b's.
WRONG: dict[str, tuple[str, str, str]] = {
    "the counter is behind": (
        "UPDATE business_clients SET last_seq = 2 WHERE id = {a}",
        "last_seq_wrong due_for_nothing",
        "",
    ),
    "the counter is ahead": ("UPDATE business_clients SET last_seq = 9 WHERE id = {a}", "last_seq_wrong", ""),
    "a message is gone": (
        "DELETE FROM inbound_messages WHERE conversation_id = {a} AND seq = 1",
        "messages_missing",
        "messages_missing",
    ),
    "more is done than there is": (
        "UPDATE business_clients SET done_seq = 9 WHERE id = {a}",
        "done_seq_too_high due_for_nothing turn_missing",
        "",
    ),
    "a reset of what is to come": (
        "UPDATE business_clients SET reset_seq = 9 WHERE id = {a}",
        "reset_seq_too_high",
        "",
    ),
    "two turns for one message": (
        "UPDATE turns SET upto_seq = 2 WHERE conversation_id = {a} AND first_seq = 1",
        "turns_overlap",
        "turns_overlap",
    ),
    "a turn that ends before it begins": (
        "UPDATE turns SET upto_seq = 0 WHERE conversation_id = {a} AND first_seq = 1",
        "turns_overlap",
        "turns_overlap",
    ),
    "a turn is gone": ("DELETE FROM turns WHERE conversation_id = {a} AND first_seq = 1", "turn_missing", ""),
    "the newest turn is gone": ("DELETE FROM turns WHERE id = {turn}", "turn_missing", ""),
    "an ended turn is not counted": (
        "UPDATE business_clients SET done_seq = 1 WHERE id = {a}",
        "turn_ended_ahead",
        "",
    ),
    "a turn ended far ahead": (
        "INSERT INTO turns (conversation_id, first_seq, upto_seq, state, epoch) VALUES ({a}, 4, 4, 'done', 0)",
        "turn_ended_ahead",
        "",
    ),
    "a turn that is not the next": (
        "INSERT INTO turns (conversation_id, first_seq, upto_seq, state, epoch) VALUES ({a}, 4, 4, 'answered', 0)",
        "turn_out_of_place",
        "",
    ),
    "a turn without its messages": (
        "INSERT INTO turns (conversation_id, first_seq, upto_seq, state, epoch) VALUES ({a}, 3, 6, 'open', 0)",
        "turn_lacks_messages last_seq_wrong messages_missing",
        "messages_missing",
    ),
    "the next message is gone": (
        "DELETE FROM inbound_messages WHERE conversation_id = {a} AND seq = 3",
        "messages_missing next_message_missing",
        "messages_missing",
    ),
    "nothing is to be run again": ("UPDATE business_clients SET redo = 1 WHERE id = {a}", "redo_wrong", ""),
    "an old turn that nobody asked for": ("UPDATE turns SET state = 'open' WHERE id = {turn}", "redo_wrong", ""),
    "pending and never due": ("UPDATE business_clients SET ready_at = NULL WHERE id = {a}", "never_due", ""),
    "due for nothing": ("UPDATE business_clients SET ready_at = {now} WHERE id = {b}", "due_for_nothing", ""),
    "due tomorrow": ("UPDATE business_clients SET ready_at = {now} + 86400 WHERE id = {a}", "due_too_late", ""),
    "due since yesterday": (
        "UPDATE business_clients SET ready_at = {now} - 86400 WHERE id = {a}",
        "overdue",
        "overdue",
    ),
    "a turn that cannot be begun": (
        """
        INSERT INTO events (conversation_id, kind) VALUES ({a}, 'turn_not_begun');
        INSERT INTO events (conversation_id, kind) VALUES ({a}, 'received')
        """,
        "turn_not_begun",
        "turn_not_begun",
    ),
    "leased until tomorrow": (
        "UPDATE business_clients SET owner = 'one', lease_until = {now} + 86400 WHERE id = {a}",
        "lease_too_long",
        "",
    ),
    "an owner without a lease": ("UPDATE business_clients SET owner = 'one' WHERE id = {a}", "half_a_lease", ""),
    "a lease without an owner": (
        "UPDATE business_clients SET lease_until = {now} - 9 WHERE id = {a}",
        "half_a_lease",
        "",
    ),
    "a part that was left behind": (
        "UPDATE outbound_messages SET state = 'ready' WHERE id = {part}",
        "part_left_behind",
        "",
    ),
    "a part that has been leaving since yesterday": (
        """
        UPDATE outbound_messages SET state = 'sending', sending_at = 1 WHERE id = {part};
        UPDATE turns SET finished_at = 1 WHERE id = {turn}
        """,
        "part_still_leaving",
        "",
    ),
    "a part in another thread": (
        "UPDATE outbound_messages SET conversation_id = {b} WHERE id = {part}",
        "part_of_another_thread",
        "part_of_another_thread",
    ),
    "the first part is gone": (
        "UPDATE outbound_messages SET part = 2 WHERE id = {part}",
        "part_missing",
        "part_missing",
    ),
    "a post under way for nobody": (
        "UPDATE slack_posts SET state = 'posting' WHERE id = {post}",
        "post_held_for_nobody",
        "",
    ),
    "a post leased until tomorrow": (
        "UPDATE slack_posts SET state = 'posting', lease_until = {now} + 86400 WHERE id = {post}",
        "post_held_for_nobody",
        "",
    ),
    "a post whose lease ran out yesterday": (
        "UPDATE slack_posts SET state = 'posting', lease_until = {now} - 86400 WHERE id = {post}",
        "post_held_for_nobody",
        "",
    ),
    "a post put off until tomorrow": (
        "UPDATE slack_posts SET next_at = {now} + 86400 WHERE id = {post}",
        "post_put_off_too_far",
        "",
    ),
    "a post in another thread's lane": (
        "UPDATE slack_posts SET lane = 'c{b}' WHERE id = {post}",
        "post_in_wrong_lane",
        "",
    ),
    "a post in another business's lane": (
        "UPDATE slack_posts SET lane = 'b999' WHERE id = {post}",
        "post_in_wrong_lane",
        "",
    ),
    "a post about another's message": (
        "UPDATE slack_posts SET inbound_id = {of_b} WHERE id = {post}",
        "post_of_another_thread",
        "post_of_another_thread",
    ),
    "a customer of nobody": ("INSERT INTO clients (address) VALUES ('whatsapp:+1')", "client_of_nobody", ""),
    "a thread is gone": ("DELETE FROM business_clients WHERE id = {b}", "client_of_nobody orphan", "orphan"),
}
#: Those that only appear where foreign keys are not held.
UNHELD = {"a thread is gone"}


@dataclass
class Shop:
    """A database with two conversations: one with something pending, one without."""

    database: Database
    bakery: Business
    names: dict[str, object]

    def run(self, statements: str, *, unheld: bool = False) -> None:
        """Run SQL, with the world's names in it; `unheld`: as if foreign keys were not there."""
        with self._unheld() if unheld else self._held() as execute:
            for statement in statements.split(";"):
                execute(statement.format(**self.names))

    def check(self) -> list[Finding]:
        return findings(self.database, progress=silent, moment=0)

    def repair(self, found: list[Finding]) -> list[Finding]:
        return repair(self.database, found, progress=silent)

    @contextmanager
    def _held(self) -> Iterator[Callable[[str], object]]:
        with self.database.write() as tx:
            yield tx.exec_driver_sql

    @contextmanager
    def _unheld(self) -> Iterator[Callable[[str], object]]:
        if self.database.file is not None:
            with closing(sqlite3.connect(self.database.file)) as raw, raw:
                yield raw.execute
        else:
            with self.database.write() as tx:
                tx.exec_driver_sql("SET LOCAL session_replication_role = replica")
                yield tx.exec_driver_sql


def silent(what: str, total: int | None, unit: str) -> Any:
    return nullcontext(lambda _: None)


def codes(found: list[Finding]) -> set[str]:
    return {finding.code for finding in found}


def answer(database: Database, conversation_id: int, text: str = "Yes.") -> tuple[int, int]:
    """Bring the next turn to its end; returns its id and its part's."""
    turn = store.open_turn(database, conversation_id, one_message=True)
    with database.write() as tx:
        outbox.add_reply(tx, turn, [text], Author.ASSISTANT)
        (part,) = outbox.parts(tx, turn.id)
        outbox.start_sending(tx, part, epoch=turn.epoch)
        outbox.sent(tx, turn, part, SentMessage(sid=f"SMout{turn.id}", status="queued"))
    store.finish(database, turn)
    return turn.id, part.id


def open_shop(database: Database) -> Shop:
    """Two conversations: `a` with two answers and two messages pending, `b` with one answer."""
    bakery = add_business(database)
    a = store.take(database, bakery).conversation_id
    answer(database, a)
    store.take(database, bakery)
    turn, part = answer(database, a)
    store.take(database, bakery)
    store.take(database, bakery)
    other = store.take(database, bakery, sender="whatsapp:+15552220009")
    b = other.conversation_id
    answer(database, b)
    with database.write() as tx:
        slack_posts.owe(tx, conversation_id=a, lane=f"c{a}", kind="reply", title="Assistant", text="Yes.")
    (post,) = store.rows(database, tables.slack_posts)
    clock = str(now().compile(dialect=database.engine.dialect))
    names = {"a": a, "b": b, "turn": turn, "part": part, "post": post.id, "of_b": other.inbound_id, "now": clock}
    return Shop(database, bakery, names)


def due(database: Database) -> list[int]:
    with database.read() as tx:
        return [each.conversation_id for each in turns.due(tx, 10)]


def stored(database: Database) -> dict[str, set[tuple[Any, ...]]]:
    """What was said, and by which turn."""
    columns = {
        tables.inbound_messages: ("id", "sid", "conversation_id", "seq", "body"),
        tables.turns: ("id", "conversation_id", "first_seq", "upto_seq", "reply"),
        tables.outbound_messages: ("id", "turn_id", "part", "body", "sid", "sent_at"),
    }
    return {
        table.name: {tuple(getattr(row, name) for name in names) for row in store.rows(database, table)}
        for table, names in columns.items()
    }


def leaving(database: Database) -> set[int]:
    """The parts that somebody might still send."""
    return {row.id for row in store.rows(database, tables.outbound_messages) if row.state in ("ready", "sending")}


def everything(database: Database) -> list[Any]:
    return [store.rows(database, table) for table in tables.metadata.sorted_tables]
