"""How much is waiting in the database: asked often, by `/readyz` and `/metrics`, so every count is an index's."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select, text

from chatbotctl.core.records.slack import PostState
from chatbotctl.core.records.turn import TurnState
from chatbotctl.core.storage import slack_posts as posts
from chatbotctl.core.storage import turns as turns_storage
from chatbotctl.core.storage.schema import slack_posts, turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What waits for a worker, for Slack, or for an operator, at one moment."""

    #: Conversations that are due and leased by nobody.
    due: int
    #: Seconds that the longest due of them has been; 0 when there is none.
    oldest_seconds: float
    #: Turns that are dead letters.
    dead: int
    #: Posts that Slack is owed.
    slack_owed: int
    #: Seconds since the oldest of them was owed; 0 when there is none.
    slack_oldest_seconds: float
    #: Posts that are dead letters.
    slack_dead: int


_IS_READ_ONLY = text("SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean")

# SQLite uses a partial index only where it finds the index's own condition in the question, to the letter: so states
# are written out and not bound, and those of unfinished turns are named beside the one that is looked for.
_DEAD_TURNS = select(func.count()).where(
    turns.c.state.in_(bindparam(None, ["open", "answered", "dead"], expanding=True, literal_execute=True)),
    turns.c.state == TurnState.DEAD,
)
_DEAD_POSTS = select(func.count()).where(slack_posts.c.state == bindparam(None, PostState.DEAD, literal_execute=True))


def read(tx: Connection) -> Load:
    """The load at this moment."""
    due, oldest_seconds = turns_storage.waiting(tx)
    owed, slack_oldest_seconds = posts.waiting(tx)
    return Load(
        due=due,
        oldest_seconds=oldest_seconds,
        dead=tx.scalar(_DEAD_TURNS) or 0,
        slack_owed=owed,
        slack_oldest_seconds=slack_oldest_seconds,
        slack_dead=tx.scalar(_DEAD_POSTS) or 0,
    )


def is_read_only(tx: Connection) -> bool:
    """Whether PostgreSQL takes no writes: a replica, or one whose provider stopped them because its disk is full."""
    return bool(tx.scalar(_IS_READ_ONLY))
