"""What it takes to run dead letters again, to find them quickly, and to look for a message in Twilio's list."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UNFINISHED = sa.text("state IN ('open', 'answered', 'dead')")
DEAD = sa.text("state = 'dead'")


def upgrade() -> None:
    """Add the columns and indexes."""
    op.add_column("business_clients", sa.Column("redo", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("outbound_messages", sa.Column("sending_at", sa.Double(), nullable=True))
    op.create_index(
        "ix_turns_unfinished", "turns", ["state", "id"], postgresql_where=UNFINISHED, sqlite_where=UNFINISHED
    )
    op.create_index("ix_slack_posts_dead", "slack_posts", ["id"], postgresql_where=DEAD, sqlite_where=DEAD)
