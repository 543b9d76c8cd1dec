"""Idempotency keys of the HTTP front."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "idempotency",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("request_mac", sa.Text(), nullable=False),
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("expires_ns", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("size", sa.Integer(), server_default="0", nullable=False),
        sa.Column("key_id", sa.Text()),
        sa.Column("nonce", sa.LargeBinary()),
        sa.Column("ciphertext", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("idempotency_expires", "idempotency", ["expires_ns"])
    op.create_index("idempotency_agent", "idempotency", ["tenant", "agent"])
    op.create_index("idempotency_call", "idempotency", ["call_id"])
