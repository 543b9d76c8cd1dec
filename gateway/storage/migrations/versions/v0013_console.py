"""Sign-ins of the console that were ended before their time, and what a call is like."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "console_ended",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("until_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("approvals_target", "approvals", ["tenant", "target", "id"])
