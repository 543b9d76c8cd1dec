"""The first schema: journal, payloads, credentials, control."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.storage.append_only import protect

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "control",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "credentials",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text()),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_ns", sa.BigInteger(), nullable=False),
        sa.Column("expires_ns", sa.BigInteger()),
        sa.Column("revoked_ns", sa.BigInteger()),
        sa.Column("replaced_by", sa.Text()),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["replaced_by"],
            ["credentials.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("credentials_name", "credentials", ["kind", "tenant", "name"])
    op.create_table(
        "payloads",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("nonce", sa.LargeBinary(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "records",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("at_ns", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text()),
        sa.Column("subject", sa.Text()),
        sa.Column("chain", sa.Text()),
        sa.Column("operator", sa.Text()),
        sa.Column("session", sa.Text()),
        sa.Column("session_epoch", sa.Integer()),
        sa.Column("parent", sa.Text()),
        sa.Column("compensates", sa.Text()),
        sa.Column("target", sa.Text()),
        sa.Column("risk", sa.Text()),
        sa.Column("digest", sa.Text()),
        sa.Column("effect_key", sa.Text()),
        sa.Column("verdict", sa.Text()),
        sa.Column("action", sa.Text()),
        sa.Column("code", sa.Text()),
        sa.Column("status", sa.Text()),
        sa.Column("outcome_code", sa.Text()),
        sa.Column("args_mac", sa.Text()),
        sa.Column("result_mac", sa.Text()),
        sa.Column("payload", sa.BigInteger()),
        sa.Column("body", sa.Text()),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("records_call", "records", ["call_id"])
    op.create_index(
        "records_effect",
        "records",
        ["tenant", "effect_key"],
        sqlite_where=sa.text("effect_key IS NOT NULL"),
        postgresql_where=sa.text("effect_key IS NOT NULL"),
    )
    op.create_index(
        "records_in_doubt",
        "records",
        ["seq"],
        sqlite_where=sa.text("phase = 'in_doubt'"),
        postgresql_where=sa.text("phase = 'in_doubt'"),
    )
    op.create_table(
        "snapshots",
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("json", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ref"),
    )

    # The journal is append-only for everybody who goes through SQL, not only for our own code.
    protect(op.execute, op.get_bind().dialect.name, ("records", "snapshots"))
