"""All tables, one schema for SQLite and PostgreSQL. Migrations follow it (a test compares the two).

How it hangs together: a *conversation* is a row of `business_clients`. Its messages are numbered by `seq` in the order
they were taken in; `last_seq` is the newest, `done_seq` the newest that a finished turn covers. A *turn* answers the
messages `first_seq..upto_seq` with one reply, which leaves in one or more `outbound_messages`. `slack_posts` is what
Slack is owed. `owner`, `lease_until` and `fence` say which worker has the conversation: a worker that was frozen past
its lease finds another fence there and decides nothing any more (what Twilio took or refused it still writes down: that
is true whoever has the conversation). `epoch` fences sends in the same way against take-over, reset and disable. Times
are seconds since 1970 UTC from the database's clock.

The files beside this one build and compile the statements of a message's path once (prepared.py): either costs more
than running one. A value that an INSERT or UPDATE is run with is set where it is named like a column: its other
parameters never are.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Named,
    String,
    Table,
    Text,
    TypedColumns,
    TypeDecorator,
    UniqueConstraint,
    false,
    true,
)
from sqlalchemy import text as literal_sql

from chatbotctl.core.addresses import LONGEST
from chatbotctl.core.storage.engine import now

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: SQLite numbers rows by itself only in a column that is INTEGER to the letter.
_Id = BigInteger().with_variant(Integer, "sqlite")
_ADDRESS = String(LONGEST)
#: What no store takes (NUL in PostgreSQL) or can even encode (lone surrogates).
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class _Text(TypeDecorator[str]):
    """Text of any length, the same in both stores; what neither could hold is stored as U+FFFD.

    The webhook refuses such customers' text. What models and translators say comes in through no door of ours, and a
    stray character in it must not cost the customer the reply.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - the base's shape
        """The text as it is stored."""
        return value if value is None else _UNSTORABLE.sub("\ufffd", value)


def _belongs_to(column: str) -> ForeignKey:
    return ForeignKey(column, ondelete="CASCADE")


class _Businesses(TypedColumns):
    id: Named[int] = Column(_Id, primary_key=True)
    name: Named[str] = Column(String(80), unique=True)
    whatsapp_address: Named[str] = Column(_ADDRESS, unique=True)
    is_disabled: Named[bool] = Column(server_default=false())
    disabled_reason: Named[str | None] = Column(_Text)
    backend: Named[str] = Column(String(20))
    model: Named[str | None] = Column(String(120))
    base_url: Named[str | None] = Column(_Text)
    instructions: Named[str] = Column(_Text, server_default="")
    assistant_id: Named[str | None] = Column(String(120))
    vector_store_ids: Named[list[str]] = Column(JSON, server_default="[]")
    history: Named[str] = Column(String(20), server_default="provider")
    language: Named[str | None] = Column(String(20))
    apology: Named[str | None] = Column(_Text)
    max_message_chars: Named[int | None] = Column(Integer)
    slack_layout: Named[str | None] = Column(String(20))
    slack_channel: Named[str | None] = Column(String(40))
    created_at: Named[float] = Column(Double, server_default=now())


class _Credentials(TypedColumns):
    id: Named[int] = Column(_Id, primary_key=True)
    business_id: Named[int] = Column(_Id, _belongs_to("businesses.id"))
    provider: Named[str] = Column(String(20))
    secret: Named[bytes] = Column(LargeBinary)
    set_at: Named[float] = Column(Double, server_default=now())


class _SlackUserIds(TypedColumns):
    id: Named[int] = Column(_Id, primary_key=True)
    business_id: Named[int] = Column(_Id, _belongs_to("businesses.id"))
    slack_user_id: Named[str] = Column(String(40))


class _KnowledgeFiles(TypedColumns):
    id: Named[int] = Column(_Id, primary_key=True)
    business_id: Named[int] = Column(_Id, _belongs_to("businesses.id"))
    name: Named[str] = Column(String(200))
    content: Named[bytes] = Column(LargeBinary)
    sha256: Named[str] = Column(String(64))
    #: The provider's store for this business's files, set before the first of them is uploaded.
    provider_store_id: Named[str | None] = Column(String(120))
    #: The copy in that store, and the sha256 of what was uploaded: an older one than `sha256` after a change.
    provider_file_id: Named[str | None] = Column(String(120))
    uploaded_sha256: Named[str | None] = Column(String(64))
    added_at: Named[float] = Column(Double, server_default=now())


class _Clients(TypedColumns):
    id: Named[int] = Column(_Id, primary_key=True)
    address: Named[str] = Column(_ADDRESS, unique=True)
    created_at: Named[float] = Column(Double, server_default=now())


class _BusinessClients(TypedColumns):
    id: Named[int] = Column(_Id, primary_key=True)
    business_id: Named[int] = Column(_Id, _belongs_to("businesses.id"))
    client_id: Named[int] = Column(_Id, _belongs_to("clients.id"), index=True)
    #: Here and not with the client: which number has which id is only as true as the business's own Twilio account.
    external_user_id: Named[str | None] = Column(_ADDRESS)
    profile_name: Named[str | None] = Column(_Text)
    language: Named[str | None] = Column(String(20))
    ai_thread: Named[str | None] = Column(String(160), index=True)
    reset_seq: Named[int] = Column(BigInteger, server_default=literal_sql("0"))
    slack_channel: Named[str | None] = Column(String(40))
    slack_thread_ts: Named[str | None] = Column(String(40))
    epoch: Named[int] = Column(Integer, server_default=literal_sql("0"))
    held_by: Named[str] = Column(String(20), server_default="assistant")
    created_at: Named[float] = Column(Double, server_default=now())
    last_inbound_at: Named[float | None] = Column(Double)
    last_message_at: Named[float | None] = Column(Double)
    last_seq: Named[int] = Column(BigInteger, server_default=literal_sql("0"))
    done_seq: Named[int] = Column(BigInteger, server_default=literal_sql("0"))
    ready_at: Named[float | None] = Column(Double)
    owner: Named[str | None] = Column(String(80))
    lease_until: Named[float | None] = Column(Double)
    fence: Named[int] = Column(BigInteger, server_default=literal_sql("0"))
    #: Ended turns, at or before `done_seq`, that an operator wants to be gone on with: they come before newer messages.
    redo: Named[int] = Column(Integer, server_default=literal_sql("0"))


class _InboundMessages(TypedColumns):
    id: Named[int] = Column(_Id, primary_key=True)
    sid: Named[str] = Column(String(64), unique=True)
    conversation_id: Named[int] = Column(_Id, _belongs_to("business_clients.id"))
    seq: Named[int] = Column(BigInteger)
    sender: Named[str] = Column(_ADDRESS)
    body: Named[str] = Column(_Text)
    kind: Named[str] = Column(String(20))
    media: Named[list[dict[str, str]]] = Column(JSON)
    parameters: Named[dict[str, str]] = Column(JSON)
    #: The body in the business's language, once it was translated.
    translation: Named[str | None] = Column(_Text)
    language: Named[str | None] = Column(String(20))
    simulated: Named[bool] = Column(server_default=false())
    mirrored: Named[bool] = Column(server_default=true())
    received_at: Named[float] = Column(Double, server_default=now())


class _Turns(TypedColumns):
    id: Named[int] = Column(_Id, primary_key=True)
    conversation_id: Named[int] = Column(_Id, _belongs_to("business_clients.id"))
    first_seq: Named[int] = Column(BigInteger)
    upto_seq: Named[int] = Column(BigInteger)
    #: open -> answered -> done | dead | withdrawn; dead -> open | answered (run again) | dropped
    state: Named[str] = Column(String(20), server_default="open")
    #: What the assistant said, as it said it.
    reply: Named[str | None] = Column(_Text)
    #: The same in the customer's language, when that is what was sent.
    reply_translation: Named[str | None] = Column(_Text)
    needs_human: Named[str | None] = Column(_Text)
    attempts: Named[int] = Column(Integer, server_default=literal_sql("0"))
    next_at: Named[float | None] = Column(Double)
    error_code: Named[str | None] = Column(String(60))
    error_message: Named[str | None] = Column(_Text)
    response_id: Named[str | None] = Column(String(160))
    model: Named[str | None] = Column(String(120))
    usage: Named[dict[str, Any]] = Column(JSON, server_default="{}")
    epoch: Named[int] = Column(Integer)
    #: Parts up to this number are those of an earlier run, which ended and told Slack of them.
    told_parts: Named[int] = Column(Integer, server_default=literal_sql("0"))
    started_at: Named[float] = Column(Double, server_default=now())
    answered_at: Named[float | None] = Column(Double)
    finished_at: Named[float | None] = Column(Double)


class _OutboundMessages(TypedColumns):
    id: Named[int] = Column(_Id, primary_key=True)
    conversation_id: Named[int] = Column(_Id, _belongs_to("business_clients.id"))
    #: None: an operator's words.
    turn_id: Named[int | None] = Column(_Id, _belongs_to("turns.id"))
    author: Named[str] = Column(String(20))
    part: Named[int] = Column(Integer, server_default=literal_sql("1"))
    sender: Named[str] = Column(_ADDRESS)
    recipient: Named[str] = Column(_ADDRESS)
    body: Named[str] = Column(_Text)
    #: ready -> sending -> sent | failed | unknown | withdrawn
    state: Named[str] = Column(String(20), server_default="ready")
    sid: Named[str | None] = Column(String(64))
    delivery_status: Named[str | None] = Column(String(20))
    error_code: Named[str | None] = Column(String(60))
    not_before: Named[float | None] = Column(Double)
    epoch: Named[int] = Column(Integer)
    created_at: Named[float] = Column(Double, server_default=now())
    #: When it first began to leave: what is older in Twilio's list is not it.
    sending_at: Named[float | None] = Column(Double)
    sent_at: Named[float | None] = Column(Double)


class _SlackPosts(TypedColumns):
    id: Named[int] = Column(_Id, primary_key=True)
    conversation_id: Named[int] = Column(_Id, _belongs_to("business_clients.id"))
    #: What is posted one after the other: `c<conversation>` or, in layout `thread`, `b<business>`.
    lane: Named[str] = Column(String(30))
    kind: Named[str] = Column(String(20))
    title: Named[str] = Column(_Text)
    text: Named[str] = Column(_Text)
    translation: Named[str | None] = Column(_Text)
    #: Set on a customer's line, whose translation may still have to be made.
    inbound_id: Named[int | None] = Column(_Id, _belongs_to("inbound_messages.id"))
    #: owed -> posting -> posted | dead; dead -> owed (run again) | dropped
    state: Named[str] = Column(String(20), server_default="owed")
    attempts: Named[int] = Column(Integer, server_default=literal_sql("0"))
    next_at: Named[float] = Column(Double, server_default=now())
    lease_until: Named[float | None] = Column(Double)
    ts: Named[str | None] = Column(String(40))
    error_code: Named[str | None] = Column(String(60))
    created_at: Named[float] = Column(Double, server_default=now())


class _Events(TypedColumns):
    id: Named[int] = Column(_Id, primary_key=True)
    at: Named[float] = Column(Double, server_default=now())
    conversation_id: Named[int] = Column(_Id, _belongs_to("business_clients.id"))
    kind: Named[str] = Column(String(40))
    message_sid: Named[str | None] = Column(String(64))
    turn_id: Named[int | None] = Column(_Id)
    detail: Named[dict[str, Any]] = Column(JSON, server_default="{}")


businesses = Table("businesses", metadata, _Businesses)
credentials = Table("credentials", metadata, _Credentials, UniqueConstraint("business_id", "provider"))
slack_user_ids = Table("slack_user_ids", metadata, _SlackUserIds, UniqueConstraint("business_id", "slack_user_id"))
knowledge_files = Table("knowledge_files", metadata, _KnowledgeFiles, UniqueConstraint("business_id", "name"))
clients = Table("clients", metadata, _Clients)
business_clients = Table(
    "business_clients",
    metadata,
    _BusinessClients,
    UniqueConstraint("business_id", "client_id"),
    UniqueConstraint("business_id", "external_user_id"),
    # The sweeper's question: what is due? Only conversations with something pending have a ready_at.
    Index(
        "ix_business_clients_ready",
        "ready_at",
        postgresql_where=literal_sql("ready_at IS NOT NULL"),
        sqlite_where=literal_sql("ready_at IS NOT NULL"),
    ),
    Index("ix_business_clients_latest", "business_id", "last_message_at"),
)
inbound_messages = Table("inbound_messages", metadata, _InboundMessages, UniqueConstraint("conversation_id", "seq"))
turns = Table(
    "turns",
    metadata,
    _Turns,
    UniqueConstraint("conversation_id", "first_seq"),
    # What is under way, and dead letters: a handful among all turns that ever were.
    Index(
        "ix_turns_unfinished",
        "state",
        "id",
        postgresql_where=literal_sql("state IN ('open', 'answered', 'dead')"),
        sqlite_where=literal_sql("state IN ('open', 'answered', 'dead')"),
    ),
    Index(
        "ix_turns_dropped",
        "id",
        postgresql_where=literal_sql("state = 'dropped'"),
        sqlite_where=literal_sql("state = 'dropped'"),
    ),
)
outbound_messages = Table(
    "outbound_messages",
    metadata,
    _OutboundMessages,
    UniqueConstraint("turn_id", "part"),
    Index("ix_outbound_messages_conversation", "conversation_id", "id"),
    Index("ix_outbound_messages_sid", "sid"),
)
slack_posts = Table(
    "slack_posts",
    metadata,
    _SlackPosts,
    # What is still owed, lane by lane; posted rows fall out of the index on PostgreSQL and SQLite alike.
    Index(
        "ix_slack_posts_owed",
        "lane",
        "id",
        postgresql_where=literal_sql("state IN ('owed', 'posting')"),
        sqlite_where=literal_sql("state IN ('owed', 'posting')"),
    ),
    Index(
        "ix_slack_posts_dead",
        "id",
        postgresql_where=literal_sql("state = 'dead'"),
        sqlite_where=literal_sql("state = 'dead'"),
    ),
    Index(
        "ix_slack_posts_dropped",
        "id",
        postgresql_where=literal_sql("state = 'dropped'"),
        sqlite_where=literal_sql("state = 'dropped'"),
    ),
    # For the foreign keys: without them, removing a business reads all posts that ever were for each message that goes.
    Index("ix_slack_posts_conversation", "conversation_id"),
    Index(
        "ix_slack_posts_inbound",
        "inbound_id",
        postgresql_where=literal_sql("inbound_id IS NOT NULL"),
        sqlite_where=literal_sql("inbound_id IS NOT NULL"),
    ),
)
events = Table("events", metadata, _Events, Index("ix_events_conversation", "conversation_id", "id"))
