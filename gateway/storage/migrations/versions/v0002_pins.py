"""Pins: which definition of a tool was accepted, and by whom."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "pinned_upstreams",
        sa.Column("upstream", sa.Text(), nullable=False),
        sa.Column("first_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("upstream"),
    )
    op.create_table(
        "pins",
        sa.Column("upstream", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("accepted_hash", sa.Text()),
        sa.Column("accepted_json", sa.LargeBinary()),
        sa.Column("accepted_ns", sa.BigInteger()),
        sa.Column("accepted_by", sa.Text()),
        sa.Column("rejected_hash", sa.Text()),
        sa.Column("rejected_ns", sa.BigInteger()),
        sa.Column("rejected_by", sa.Text()),
        sa.Column("listed", sa.Integer(), nullable=False),
        sa.Column("listed_hash", sa.Text(), nullable=False),
        sa.Column("listed_json", sa.LargeBinary(), nullable=False),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column("flags", sa.Text(), nullable=False),
        sa.Column("seen_ns", sa.BigInteger(), nullable=False),
        sa.Column("removed_ns", sa.BigInteger()),
        sa.PrimaryKeyConstraint("upstream", "kind", "name"),
    )
