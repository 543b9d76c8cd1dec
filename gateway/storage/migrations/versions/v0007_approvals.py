"""Approvals, their votes and events, and grants."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.storage.append_only import protect

revision = "0007"
down_revision = "0006"

_APPEND_ONLY = ("approval_votes", "approval_events")
_LIVE = "state IN ('pending', 'approved', 'executing', 'recovering', 'in_doubt')"


def upgrade() -> None:
    op.create_table(
        "approvals",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("unsent", sa.Integer(), nullable=False),
        sa.Column("tainted", sa.Integer(), nullable=False),
        sa.Column("idempotent", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text()),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("schema_hash", sa.Text(), nullable=False),
        sa.Column("risk", sa.Text(), nullable=False),
        sa.Column("asked_digest", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("effect_key", sa.Text(), nullable=False),
        sa.Column("requirements", sa.Text(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("policy_revision", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text()),
        sa.Column("nonce", sa.LargeBinary()),
        sa.Column("ciphertext", sa.LargeBinary()),
        sa.Column("opened_ns", sa.BigInteger(), nullable=False),
        sa.Column("decide_by_ns", sa.BigInteger(), nullable=False),
        sa.Column("execute_s", sa.Integer(), nullable=False),
        sa.Column("execute_by_ns", sa.BigInteger()),
        sa.Column("lease_s", sa.Integer(), nullable=False),
        sa.Column("send_by_ns", sa.BigInteger()),
        sa.Column("lease_until_ns", sa.BigInteger()),
        sa.Column("attempt_call", sa.Text()),
        sa.Column("closed_ns", sa.BigInteger()),
        sa.Column("closed_by", sa.Text()),
        sa.Column("reason_code", sa.Text()),
        sa.Column("reason_text", sa.Text()),
        sa.Column("supersedes", sa.Text()),
        sa.Column("superseded_by", sa.Text()),
        sa.Column("editors", sa.Text(), nullable=False),
        sa.Column("question", sa.Text()),
        sa.Column("asked_by", sa.Text()),
        sa.Column("answer", sa.Text()),
        sa.Column("next_notice_ns", sa.BigInteger()),
        sa.ForeignKeyConstraint(["supersedes"], ["approvals.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("approvals_call", "approvals", ["call_id"])
    op.create_index("approvals_digest", "approvals", ["tenant", "asked_digest"])
    op.create_index("approvals_due", "approvals", ["state", "decide_by_ns"])
    op.create_index(
        "approvals_kept",
        "approvals",
        ["closed_ns"],
        sqlite_where=sa.text("ciphertext IS NOT NULL"),
        postgresql_where=sa.text("ciphertext IS NOT NULL"),
    )
    op.create_index(
        "approvals_live",
        "approvals",
        ["tenant", "asked_digest"],
        unique=True,
        sqlite_where=sa.text(_LIVE),
        postgresql_where=sa.text(_LIVE),
    )
    op.create_index("approvals_state", "approvals", ["tenant", "state", "id"])
    op.create_table(
        "approval_votes",
        sa.Column("approval_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("principal", sa.Text(), nullable=False),
        sa.Column("on_behalf", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("shown_digest", sa.Text(), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("prev_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["approval_id"], ["approvals.id"]),
        sa.PrimaryKeyConstraint("approval_id", "number"),
    )
    op.create_index(
        "approval_votes_once", "approval_votes", ["approval_id", "stage", "principal"], unique=True
    )
    op.create_table(
        "approval_events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("approval_id", sa.Text(), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("approval_events_approval", "approval_events", ["approval_id"])
    op.create_table(
        "approval_grants",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("session", sa.Text()),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("schema_hash", sa.Text(), nullable=False),
        sa.Column("matcher", sa.Text(), nullable=False),
        sa.Column("requirements", sa.Text(), nullable=False),
        sa.Column("max_uses", sa.Integer(), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("budget_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("spent_micro_usd", sa.BigInteger(), nullable=False),
        sa.Column("made_ns", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("made_from", sa.Text(), nullable=False),
        sa.Column("expires_ns", sa.BigInteger(), nullable=False),
        sa.Column("policy_revision", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("revoked_ns", sa.BigInteger()),
        sa.Column("revoked_by", sa.Text()),
        sa.ForeignKeyConstraint(["made_from"], ["approvals.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("approval_grants_agent", "approval_grants", ["tenant", "agent", "target"])
    protect(op.execute, op.get_bind().dialect.name, _APPEND_ONLY)
