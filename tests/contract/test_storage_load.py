"""What waits, as `/readyz` and `/metrics` tell it: counted right on both stores, and never by reading a whole table."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, text, update

from chatbotctl.core.records.business import Business
from chatbotctl.core.records.slack import PostState
from chatbotctl.core.records.turn import TurnState
from chatbotctl.core.storage import load, slack_posts
from chatbotctl.core.storage import schema as tables
from chatbotctl.core.storage.engine import Database, now
from chatbotctl.core.storage.load import Load
from tests.contract.store import claim, finish, open_turn, take
from tests.installs import add_business

NOTHING = Load(due=0, oldest_seconds=0, dead=0, slack_owed=0, slack_oldest_seconds=0, slack_dead=0)


@pytest.fixture
def bakery(database: Database) -> Business:
    return add_business(database)


def read(database: Database) -> Load:
    with database.read() as tx:
        return load.read(tx)


def customer(number: int) -> str:
    return f"whatsapp:+1555222{number:04}"


def test_nothing_waits_in_an_empty_database(database: Database) -> None:
    assert read(database) == NOTHING


def test_conversations_count_that_are_due_and_that_nobody_has(database: Database, bakery: Business) -> None:
    for number, quiet in enumerate((0.0, 0.0, 3600.0)):
        take(database, bakery, sender=customer(number), quiet=quiet, max_wait=7200)
    leased = take(database, bakery, sender=customer(9)).conversation_id
    assert claim(database, leased) is not None

    found = read(database)
    assert (found.due, found.dead) == (2, 0)
    assert 0 <= found.oldest_seconds < 60


def test_the_longest_due_tells_its_age(database: Database, bakery: Business) -> None:
    take(database, bakery, sender=customer(1))
    taken = take(database, bakery, sender=customer(2))
    with database.write() as tx:
        tx.execute(
            update(tables.business_clients)
            .where(tables.business_clients.c.id == taken.conversation_id)
            .values(ready_at=now() - 500)
        )
    assert 500 <= read(database).oldest_seconds < 560


def test_dead_letters_count_until_somebody_settles_them(database: Database, bakery: Business) -> None:
    states = (TurnState.DEAD, TurnState.DONE, TurnState.WITHDRAWN, TurnState.DEAD)
    for number, state in enumerate(states):
        finish(database, open_turn(database, take(database, bakery, sender=customer(number)).conversation_id), state)
    assert read(database).dead == 2
    with database.write() as tx:
        tx.execute(update(tables.turns).where(tables.turns.c.state == "dead").values(state=TurnState.DROPPED))
    assert read(database) == NOTHING


def test_what_slack_is_owed_counts_by_its_state(database: Database, bakery: Business) -> None:
    conversation = take(database, bakery).conversation_id
    finish(database, open_turn(database, conversation))
    states = [PostState.POSTED, PostState.DEAD, PostState.OWED, PostState.POSTING, PostState.DROPPED]
    with database.write() as tx:
        for number in range(len(states)):
            slack_posts.owe(tx, conversation_id=conversation, lane=f"c{number}", kind="reply", title="", text="Hi")
        posts = tables.slack_posts
        for post_id, state in zip(tx.scalars(posts.select().with_only_columns(posts.c.id)), states, strict=True):
            at = now() - 100 * post_id
            tx.execute(update(posts).where(posts.c.id == post_id).values(state=state, created_at=at))

    found = read(database)
    assert (found.slack_owed, found.slack_dead) == (2, 1)
    assert 300 <= found.slack_oldest_seconds < 360, "the third is the oldest that is owed"


def test_no_count_reads_a_whole_table(database: Database) -> None:
    asked: list[tuple[str, Any]] = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
    assert read(database) == NOTHING
    counts = [(statement, values) for statement, values in asked if statement.startswith("SELECT")]
    with database.engine.connect() as connection:
        if not database.is_sqlite:
            # It reads small tables whole; the question is whether it could do otherwise.
            connection.execute(text("SET enable_seqscan = off"))
        explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
        plans = [
            str(connection.exec_driver_sql(f"{explain} {statement}", values).all()) for statement, values in counts
        ]
    indexes = ["ix_business_clients_ready", "ix_slack_posts_owed", "ix_turns_unfinished", "ix_slack_posts_dead"]
    assert len(plans) == len(indexes)
    for plan, index in zip(plans, indexes, strict=True):
        assert index in plan
