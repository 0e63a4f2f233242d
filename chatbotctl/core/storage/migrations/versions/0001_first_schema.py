"""The first schema: businesses, customers, conversations, the engine's inbox, turns and outboxes, the timeline."""

import sqlalchemy as sa
from alembic import op

from chatbotctl.core.storage.engine import now

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

#: SQLite numbers rows by itself only in a column that is INTEGER to the letter.
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "businesses",
        sa.Column("id", ID, nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("whatsapp_address", sa.String(length=160), nullable=False),
        sa.Column("is_disabled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("backend", sa.String(length=20), nullable=False),
        sa.Column("model", sa.String(length=120), nullable=True),
        sa.Column("base_url", sa.Text(), nullable=True),
        sa.Column("instructions", sa.Text(), server_default="", nullable=False),
        sa.Column("assistant_id", sa.String(length=120), nullable=True),
        sa.Column("vector_store_ids", sa.JSON(), server_default="[]", nullable=False),
        sa.Column("history", sa.String(length=20), server_default="provider", nullable=False),
        sa.Column("language", sa.String(length=20), nullable=True),
        sa.Column("apology", sa.Text(), nullable=True),
        sa.Column("max_message_chars", sa.Integer(), nullable=True),
        sa.Column("slack_layout", sa.String(length=20), nullable=True),
        sa.Column("slack_channel", sa.String(length=40), nullable=True),
        sa.Column("created_at", sa.Double(), server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_businesses")),
        sa.UniqueConstraint("name", name=op.f("uq_businesses_name")),
        sa.UniqueConstraint("whatsapp_address", name=op.f("uq_businesses_whatsapp_address")),
    )
    op.create_table(
        "clients",
        sa.Column("id", ID, nullable=False),
        sa.Column("address", sa.String(length=160), nullable=False),
        sa.Column("created_at", sa.Double(), server_default=now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_clients")),
        sa.UniqueConstraint("address", name=op.f("uq_clients_address")),
    )
    op.create_table(
        "business_clients",
        sa.Column("id", ID, nullable=False),
        sa.Column("business_id", ID, nullable=False),
        sa.Column("client_id", ID, nullable=False),
        sa.Column("external_user_id", sa.String(length=160), nullable=True),
        sa.Column("profile_name", sa.Text(), nullable=True),
        sa.Column("language", sa.String(length=20), nullable=True),
        sa.Column("ai_thread", sa.String(length=160), nullable=True),
        sa.Column("reset_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("slack_channel", sa.String(length=40), nullable=True),
        sa.Column("slack_thread_ts", sa.String(length=40), nullable=True),
        sa.Column("epoch", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("held_by", sa.String(length=20), server_default="assistant", nullable=False),
        sa.Column("created_at", sa.Double(), server_default=now(), nullable=False),
        sa.Column("last_inbound_at", sa.Double(), nullable=True),
        sa.Column("last_message_at", sa.Double(), nullable=True),
        sa.Column("last_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("done_seq", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("ready_at", sa.Double(), nullable=True),
        sa.Column("owner", sa.String(length=80), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name=op.f("fk_business_clients_business_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["client_id"], ["clients.id"], name=op.f("fk_business_clients_client_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_business_clients")),
        sa.UniqueConstraint("business_id", "client_id", name=op.f("uq_business_clients_business_id_client_id")),
        sa.UniqueConstraint(
            "business_id", "external_user_id", name=op.f("uq_business_clients_business_id_external_user_id")
        ),
    )
    op.create_index(op.f("ix_business_clients_ai_thread"), "business_clients", ["ai_thread"], unique=False)
    op.create_index(op.f("ix_business_clients_client_id"), "business_clients", ["client_id"], unique=False)
    op.create_index("ix_business_clients_latest", "business_clients", ["business_id", "last_message_at"], unique=False)
    op.create_index(
        "ix_business_clients_ready",
        "business_clients",
        ["ready_at"],
        unique=False,
        postgresql_where=sa.text("ready_at IS NOT NULL"),
        sqlite_where=sa.text("ready_at IS NOT NULL"),
    )
    op.create_table(
        "credentials",
        sa.Column("id", ID, nullable=False),
        sa.Column("business_id", ID, nullable=False),
        sa.Column("provider", sa.String(length=20), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("set_at", sa.Double(), server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name=op.f("fk_credentials_business_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credentials")),
        sa.UniqueConstraint("business_id", "provider", name=op.f("uq_credentials_business_id_provider")),
    )
    op.create_table(
        "knowledge_files",
        sa.Column("id", ID, nullable=False),
        sa.Column("business_id", ID, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("provider_store_id", sa.String(length=120), nullable=True),
        sa.Column("provider_file_id", sa.String(length=120), nullable=True),
        sa.Column("uploaded_sha256", sa.String(length=64), nullable=True),
        sa.Column("added_at", sa.Double(), server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name=op.f("fk_knowledge_files_business_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_knowledge_files")),
        sa.UniqueConstraint("business_id", "name", name=op.f("uq_knowledge_files_business_id_name")),
    )
    op.create_table(
        "slack_user_ids",
        sa.Column("id", ID, nullable=False),
        sa.Column("business_id", ID, nullable=False),
        sa.Column("slack_user_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(
            ["business_id"], ["businesses.id"], name=op.f("fk_slack_user_ids_business_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_slack_user_ids")),
        sa.UniqueConstraint("business_id", "slack_user_id", name=op.f("uq_slack_user_ids_business_id_slack_user_id")),
    )
    op.create_table(
        "events",
        sa.Column("id", ID, nullable=False),
        sa.Column("at", sa.Double(), server_default=now(), nullable=False),
        sa.Column("conversation_id", ID, nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("message_sid", sa.String(length=64), nullable=True),
        sa.Column("turn_id", ID, nullable=True),
        sa.Column("detail", sa.JSON(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["business_clients.id"], name=op.f("fk_events_conversation_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_conversation", "events", ["conversation_id", "id"], unique=False)
    op.create_table(
        "inbound_messages",
        sa.Column("id", ID, nullable=False),
        sa.Column("sid", sa.String(length=64), nullable=False),
        sa.Column("conversation_id", ID, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("sender", sa.String(length=160), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("media", sa.JSON(), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("translation", sa.Text(), nullable=True),
        sa.Column("language", sa.String(length=20), nullable=True),
        sa.Column("simulated", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("mirrored", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("received_at", sa.Double(), server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["business_clients.id"],
            name=op.f("fk_inbound_messages_conversation_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbound_messages")),
        sa.UniqueConstraint("conversation_id", "seq", name=op.f("uq_inbound_messages_conversation_id_seq")),
        sa.UniqueConstraint("sid", name=op.f("uq_inbound_messages_sid")),
    )
    op.create_table(
        "turns",
        sa.Column("id", ID, nullable=False),
        sa.Column("conversation_id", ID, nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("upto_seq", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=20), server_default="open", nullable=False),
        sa.Column("reply", sa.Text(), nullable=True),
        sa.Column("reply_translation", sa.Text(), nullable=True),
        sa.Column("needs_human", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("error_code", sa.String(length=60), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("response_id", sa.String(length=160), nullable=True),
        sa.Column("model", sa.String(length=120), nullable=True),
        sa.Column("usage", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Double(), server_default=now(), nullable=False),
        sa.Column("answered_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["business_clients.id"], name=op.f("fk_turns_conversation_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_turns")),
        sa.UniqueConstraint("conversation_id", "first_seq", name=op.f("uq_turns_conversation_id_first_seq")),
    )
    op.create_table(
        "outbound_messages",
        sa.Column("id", ID, nullable=False),
        sa.Column("conversation_id", ID, nullable=False),
        sa.Column("turn_id", ID, nullable=True),
        sa.Column("author", sa.String(length=20), nullable=False),
        sa.Column("part", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("sender", sa.String(length=160), nullable=False),
        sa.Column("recipient", sa.String(length=160), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), server_default="ready", nullable=False),
        sa.Column("sid", sa.String(length=64), nullable=True),
        sa.Column("delivery_status", sa.String(length=20), nullable=True),
        sa.Column("error_code", sa.String(length=60), nullable=True),
        sa.Column("not_before", sa.Double(), nullable=True),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), server_default=now(), nullable=False),
        sa.Column("sent_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["business_clients.id"],
            name=op.f("fk_outbound_messages_conversation_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["turn_id"], ["turns.id"], name=op.f("fk_outbound_messages_turn_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbound_messages")),
        sa.UniqueConstraint("turn_id", "part", name=op.f("uq_outbound_messages_turn_id_part")),
    )
    op.create_index("ix_outbound_messages_conversation", "outbound_messages", ["conversation_id", "id"], unique=False)
    op.create_index("ix_outbound_messages_sid", "outbound_messages", ["sid"], unique=False)
    op.create_table(
        "slack_posts",
        sa.Column("id", ID, nullable=False),
        sa.Column("conversation_id", ID, nullable=False),
        sa.Column("lane", sa.String(length=30), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("translation", sa.Text(), nullable=True),
        sa.Column("inbound_id", ID, nullable=True),
        sa.Column("state", sa.String(length=20), server_default="owed", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_at", sa.Double(), server_default=now(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("ts", sa.String(length=40), nullable=True),
        sa.Column("error_code", sa.String(length=60), nullable=True),
        sa.Column("created_at", sa.Double(), server_default=now(), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["business_clients.id"],
            name=op.f("fk_slack_posts_conversation_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["inbound_id"], ["inbound_messages.id"], name=op.f("fk_slack_posts_inbound_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_slack_posts")),
    )
    op.create_index(
        "ix_slack_posts_owed",
        "slack_posts",
        ["lane", "id"],
        unique=False,
        postgresql_where=sa.text("state IN ('owed', 'posting')"),
        sqlite_where=sa.text("state IN ('owed', 'posting')"),
    )
