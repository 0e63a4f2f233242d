"""What is there after a run: the rows of the database, what the vendors took, what was logged.

Read once, when nothing moves any more; `invariants` judges it.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Row, func, select, update

from chatbotctl.core.errors import StorageUnavailable
from chatbotctl.core.storage import schema
from chatbotctl.core.storage.engine import Database, now
from tests.chaos.cluster import Cluster
from tests.chaos.sampling import Sampler
from tests.chaos.traffic import Message
from tests.chaos.world import Accepted, Ask, ReplyPart, part_of

#: A claimed Slack post's lease, with the run's `slack.timeout_seconds` (flow/slack_place.py).
POST_LEASE_SECONDS = 30.0

#: (business's number, customer's address).
Pair = tuple[str, str]


@dataclass(frozen=True)
class Unsettled:
    """How much is still under way."""

    conversations: int
    turns: int
    parts: int
    posts: int

    @property
    def anything(self) -> bool:
        return any((self.conversations, self.turns, self.parts, self.posts))


def unsettled(database: Database) -> Unsettled:
    """Count what is still under way. Raises StorageUnavailable."""
    conversations, turns = schema.business_clients.c, schema.turns.c
    parts, posts = schema.outbound_messages.c, schema.slack_posts.c

    def count(*conditions: Any) -> int:
        return tx.scalar(select(func.count()).where(*conditions)) or 0

    with database.read() as tx:
        return Unsettled(
            conversations=count(conversations.last_seq > conversations.done_seq),
            turns=count(turns.state.in_(["open", "answered"])),
            parts=count(parts.state.in_(["ready", "sending"])),
            posts=count(posts.state.in_(["owed", "posting"])),
        )


def wait_until_settled(cluster: Cluster, *, seconds: float, hasten: bool) -> float:
    """Come back once nothing is under way any more, or after so many seconds; returns how many it took.

    Arguments:
        hasten: a killed poster's Slack posts are let go at once: waiting out their lease proves nothing of interest.
    """
    began = time.monotonic()
    database = Database(cluster.database_url, pool_size=2)
    try:
        while time.monotonic() < began + seconds:
            try:
                if not unsettled(database).anything:
                    break
                if hasten:
                    _let_go(database)
            except StorageUnavailable:
                pass
            time.sleep(0.2)
    finally:
        database.close()
    return time.monotonic() - began


def _let_go(database: Database) -> None:
    """Free the posts that were claimed more than 3 s ago: the fake answers in milliseconds."""
    posts = schema.slack_posts.c
    with database.write() as tx:
        old = posts.lease_until < now() + POST_LEASE_SECONDS - 3
        tx.execute(update(schema.slack_posts).where(posts.state == "posting", old).values(lease_until=None))


@dataclass
class Evidence:
    """Everything that a run has left."""

    messages: Sequence[Message]
    #: Tables, by name: their rows.
    rows: dict[str, Sequence[Row[Any]]]
    asks: Sequence[Ask]
    accepted: Sequence[Accepted]
    #: Slack channel id -> what a person reads in each of its messages, oldest first.
    channels: dict[str, list[str]]
    #: OpenAI's key -> the bodies that were sent with it.
    asked_bodies: dict[str, list[str]]
    #: Process's name -> what it printed.
    logs: dict[str, str]
    command_lines: set[str]
    sampler: Sampler
    #: When processes were killed (time.time()).
    killed_at: Sequence[float] = ()

    @cached_property
    def pair_of(self) -> dict[int, Pair]:
        """Conversation's id -> whose it is."""
        businesses = {row.id: row.whatsapp_address for row in self.rows["businesses"]}
        clients = {row.id: row.address for row in self.rows["clients"]}
        return {row.id: (businesses[row.business_id], clients[row.client_id]) for row in self.rows["business_clients"]}

    @cached_property
    def turns_of(self) -> dict[str, list[Row[Any]]]:
        """MessageSid -> the turns that cover it: one."""
        turns = defaultdict(list)
        for turn in self.rows["turns"]:
            turns[turn.conversation_id].append(turn)
        return {
            row.sid: [turn for turn in turns[row.conversation_id] if turn.first_seq <= row.seq <= turn.upto_seq]
            for row in self.rows["inbound_messages"]
        }

    @cached_property
    def turn_of(self) -> dict[str, Row[Any]]:
        """MessageSid -> the turn that covers it, if there is one."""
        return {sid: turns[0] for sid, turns in self.turns_of.items() if turns}

    @cached_property
    def sent_parts(self) -> list[tuple[Accepted, ReplyPart]]:
        """What Twilio took of the assistant's replies, in order."""
        read = ((accepted, part_of(accepted.body)) for accepted in self.accepted)
        return [(accepted, part) for accepted, part in read if part is not None]


def gather(cluster: Cluster, messages: Sequence[Message], sampler: Sampler) -> Evidence:
    """Read all of it."""
    database = Database(cluster.database_url, pool_size=2)
    try:
        with database.read() as tx:
            rows = {
                table.name: tx.execute(select(table).order_by(table.c.id)).all()
                for table in schema.metadata.sorted_tables
                if table.name != "knowledge_files"
            }
    finally:
        database.close()
    world = cluster.world
    bodies = defaultdict(list)
    for request in world.openai.seen():
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        bodies[key].append(request.body.decode("utf-8", "replace"))
    return Evidence(
        messages=messages,
        rows=rows,
        asks=list(world.openai.asks),
        accepted=list(world.twilio.accepted),
        channels={
            channel.id: [message.reading + json.dumps(message.blocks) for message in channel.messages]
            for channel in world.slack.channels.values()
        },
        asked_bodies=dict(bodies),
        logs={member.name: member.log for member in cluster.members},
        command_lines=sampler.command_lines,
        sampler=sampler,
        killed_at=[at for member in cluster.members for at in member.killed_at],
    )
