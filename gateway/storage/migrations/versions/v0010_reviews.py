"""What is known of reviewing: one row for each vote, incidents after approvals, and canaries among them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("approvals", sa.Column("canary", sa.Text()))
    op.create_index("approvals_agent", "approvals", ["tenant", "agent", "state"])
    op.create_index(
        "approvals_canary",
        "approvals",
        ["tenant", "state"],
        sqlite_where=sa.text("canary IS NOT NULL"),
        postgresql_where=sa.text("canary IS NOT NULL"),
    )
    op.create_index(
        "approvals_notice",
        "approvals",
        ["next_notice_ns"],
        sqlite_where=sa.text("next_notice_ns IS NOT NULL"),
        postgresql_where=sa.text("next_notice_ns IS NOT NULL"),
    )
    op.create_table(
        "approval_reviews",
        sa.Column("approval_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("took_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("approval_id", "number"),
    )
    op.create_index("approval_reviews_person", "approval_reviews", ["tenant", "principal", "at_ns"])
    op.create_index("approval_reviews_at", "approval_reviews", ["tenant", "at_ns"])
    op.create_table(
        "approval_incidents",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("approval_id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["approval_id"], ["approvals.id"]),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("approval_incidents_of", "approval_incidents", ["tenant", "approval_id"])
    op.create_index("approval_events_kind", "approval_events", ["event", "at_ns"])
