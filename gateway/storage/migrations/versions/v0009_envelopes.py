"""Openings of break-glass envelopes, and which of them an approval was discharged by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("approvals", sa.Column("envelope", sa.Text()))
    op.create_table(
        "approval_openings",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("duration_s", sa.Integer(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("asked_ns", sa.BigInteger(), nullable=False),
        sa.Column("second_by_ns", sa.BigInteger(), nullable=False),
        sa.Column("seconded_by", sa.Text()),
        sa.Column("opened_ns", sa.BigInteger()),
        sa.Column("expires_ns", sa.BigInteger()),
        sa.Column("closed_ns", sa.BigInteger()),
        sa.Column("closed_by", sa.Text()),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("max_uses", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("approval_openings_name", "approval_openings", ["tenant", "name"])
