"""What a turn that is gone on with has told Slack already, and where dropped dead letters are found."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

DROPPED = sa.text("state = 'dropped'")


def upgrade() -> None:
    """Add the column and the indexes."""
    op.add_column("turns", sa.Column("told_parts", sa.Integer(), server_default=sa.text("0"), nullable=False))
    for table in ("turns", "slack_posts"):
        op.create_index(f"ix_{table}_dropped", table, ["id"], postgresql_where=DROPPED, sqlite_where=DROPPED)
