"""Indexes of the foreign keys of slack_posts: removing a business does not read all posts for each message of its own.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OF_A_MESSAGE = sa.text("inbound_id IS NOT NULL")


def upgrade() -> None:
    """Add the indexes."""
    op.create_index("ix_slack_posts_conversation", "slack_posts", ["conversation_id"])
    op.create_index(
        "ix_slack_posts_inbound",
        "slack_posts",
        ["inbound_id"],
        postgresql_where=OF_A_MESSAGE,
        sqlite_where=OF_A_MESSAGE,
    )
