"""What the tests of `queue ...` share: an install that the command line finds, with messages in every state."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table, update

from chatbotctl.core.flow.accept import Accepted
from chatbotctl.core.records.assistant import Answer
from chatbotctl.core.records.conversation import Author
from chatbotctl.core.records.turn import Failure, PartState, TurnState
from chatbotctl.core.storage import conversations, outbox, slack_posts, turns
from chatbotctl.core.storage import schema as tables
from tests import installs
from tests.cli import Run, chatbotctl
from tests.unit.commands import business_site as site

LUNA, NOVA = "whatsapp:+15550001111", "whatsapp:+15550002222"
ANA, BEN = "whatsapp:+15557654321", "whatsapp:+15557650000"


def run(*args: str, stdin: str = "") -> Run:
    """One `queue` command."""
    return chatbotctl("queue", *args, stdin=stdin)


def received(body: str = "Hello", *, sender: str = ANA, to: str = LUNA, **fields: Any) -> Accepted:
    """A message that nobody has answered yet."""
    with site.core() as core:
        return installs.take_in(core, body, sender=sender, receiver=to, **fields)


def dead(
    body: str = "Hello",
    *,
    sender: str = ANA,
    to: str = LUNA,
    code: str = "assistant_failed",
    parts: tuple[tuple[str, str | None], ...] = (),
    **fields: Any,
) -> int:
    """A dead turn; returns its id.

    Arguments:
        parts: state and vendor's code of each part of its reply; none: the assistant had failed.
    """
    with site.core() as core:
        accepted = installs.take_in(core, body, sender=sender, receiver=to, **fields)
        with core.database.write() as tx:
            lease = turns.claim(tx, accepted.conversation_id, owner="one", lease_seconds=30)
            assert lease is not None
            turn = turns.open_turn(tx, lease, one_message=True)
            if parts:
                turns.store_answer(tx, turn, Answer(text="Yes, we do.", model="gpt-test"), None)
                outbox.add_reply(tx, turn, [f"part {number}" for number, _ in enumerate(parts, 1)], Author.ASSISTANT)
                for part, (state, reason) in zip(outbox.parts(tx, turn.id), parts, strict=True):
                    outbox.not_sent(tx, part, PartState(state), reason or "")
            turns.finish(tx, turn, TurnState.DEAD, Failure(code=code, message="It failed for good."))
        return turn.id


def running_turn(*, sender: str = ANA, to: str = LUNA, owner: str = "worker-1") -> int:
    """A turn that a worker is at; returns its id."""
    accepted = received(sender=sender, to=to)
    with site.core() as core, core.database.write() as tx:
        lease = turns.claim(tx, accepted.conversation_id, owner=owner, lease_seconds=300)
        assert lease is not None
        return turns.open_turn(tx, lease, one_message=True).id


def postponed_turn(seconds: float = 100.0, *, sender: str = ANA, to: str = LUNA) -> int:
    """A turn that was put off; returns its id."""
    accepted = received(sender=sender, to=to)
    with site.core() as core, core.database.write() as tx:
        lease = turns.claim(tx, accepted.conversation_id, owner="one", lease_seconds=30)
        assert lease is not None
        turn = turns.open_turn(tx, lease, one_message=True)
        turns.postpone(tx, turn, seconds, code="send_failed")
        return turn.id


def post(state: str = "dead", *, thread: int = 1, code: str | None = "invalid_blocks", text: str = "Hello") -> str:
    """A Slack post of a thread that there is; returns its id."""
    with site.core() as core, core.database.write() as tx:
        conversations.get(tx, thread)
        slack_posts.owe(tx, conversation_id=thread, lane=f"c{thread}", kind="reply", title="Assistant", text=text)
        newest = max(tx.scalars(tables.slack_posts.select().with_only_columns(tables.slack_posts.c.id)))
        change = update(tables.slack_posts).where(tables.slack_posts.c.id == newest)
        tx.execute(change.values(state=state, error_code=code))
    return f"s{newest}"


def changed(table: Table[Any], **columns: Any) -> None:
    """Change columns of every row of a table."""
    with site.core() as core, core.database.write() as tx:
        tx.execute(update(table).values(columns))


def listed(*options: str) -> list[dict[str, Any]]:
    """What `queue list --json` has."""
    done = run("list", "--json", *options)
    assert done.code == 0, done.err
    found: list[dict[str, Any]] = done.json
    return found


def states(*options: str) -> dict[str, str]:
    """Id -> state of what is listed."""
    return {entry["id"]: entry["state"] for entry in listed(*options)}
