"""Sessions with their mandates, what people did to them, and the accounts of agents and tenants."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text()),
        sa.Column("rolling", sa.Integer(), nullable=False),
        sa.Column("parent", sa.Text(), server_default="", nullable=False),
        sa.Column("opened_ns", sa.BigInteger(), nullable=False),
        sa.Column("opened_by", sa.Text(), nullable=False),
        sa.Column("expires_ns", sa.BigInteger()),
        sa.Column("closed_ns", sa.BigInteger()),
        sa.Column("n", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("seen_ns", sa.BigInteger(), nullable=False),
        sa.Column("mandate_key", sa.Text()),
        sa.Column("mandate_nonce", sa.LargeBinary()),
        sa.Column("mandate", sa.LargeBinary()),
        sa.Column("state_key", sa.Text()),
        sa.Column("state_nonce", sa.LargeBinary()),
        sa.Column("state", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("sessions_agent", "sessions", ["tenant", "agent"])
    op.create_index("sessions_seen", "sessions", ["seen_ns"])
    op.create_index("sessions_parent", "sessions", ["parent"])
    op.create_table(
        "session_acts",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("detail", sa.Text(), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("session_acts_session", "session_acts", ["session"])
    op.create_table(
        "accounts",
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("scope"),
    )
