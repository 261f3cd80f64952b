"""Sites, the visitors of their pages, tokens that expire, and files sent to a person."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Spelled out here, not imported: a migration must do tomorrow what it did the day it was written.
_STATUSES = "status IN ('open', 'waiting', 'person', 'resolved')"
_CONVERSATIONS = (
    "id TEXT NOT NULL, channel TEXT NOT NULL, sender TEXT NOT NULL, site TEXT, visitor TEXT NOT NULL, "
    "status TEXT NOT NULL, created_at DATETIME NOT NULL, seen_at DATETIME NOT NULL, "
    "CONSTRAINT pk_conversations PRIMARY KEY (id), "
    f"CONSTRAINT ck_conversations_status CHECK ({_STATUSES}), "
    "CONSTRAINT fk_conversations_visitor_visitors FOREIGN KEY(visitor) REFERENCES visitors (id)"
)


def upgrade() -> None:
    op.create_table(
        "sites",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("origins", sa.Text(), nullable=False),
        sa.Column("link_hosts", sa.Text(), nullable=False),
        sa.Column("theme", sa.Text(), nullable=False),
        sa.Column("hours", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("pre_chat", sa.Text(), nullable=False),
        sa.Column("identity_required", sa.Boolean(), nullable=False),
        sa.Column("identity_secret", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sites")),
    )
    op.create_table(
        "visitors",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_visitors")),
    )
    op.create_index(op.f("ix_visitors_user_id_site"), "visitors", ["user_id", "site"], unique=False)
    _give_each_conversation_a_visitor()
    op.create_table(
        "tokens",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("visitor", sa.Text(), nullable=False),
        sa.Column("life", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_tokens_conversation_id_conversations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_tokens")),
    )
    op.create_index(op.f("ix_tokens_conversation_id"), "tokens", ["conversation_id"], unique=False)
    op.execute(
        "INSERT INTO tokens (hash, conversation_id, visitor, life, expires_at) "
        "SELECT token_hash, id, id, 2592000, strftime('%Y-%m-%d %H:%M:%f000', 'now', '+30 days') "
        "FROM conversations_before"
    )
    op.execute("DROP TABLE conversations_before")
    op.create_table(
        "files",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("conversation_id", sa.Text(), nullable=False),
        sa.Column("after", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_files_conversation_id_conversations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_files")),
    )
    op.create_index(op.f("ix_files_conversation_id"), "files", ["conversation_id"], unique=False)


def _give_each_conversation_a_visitor() -> None:
    """The table anew, since SQLite cannot add a column that may not be null and refers elsewhere.

    Messages refer to `conversations` by its name, which the new table has from the start. `legacy_alter_table` keeps
    SQLite from making them follow the old table to its new name.
    """
    op.execute("INSERT INTO visitors SELECT id, site, NULL, '', '', created_at FROM conversations")
    op.execute("PRAGMA legacy_alter_table = ON")
    op.execute("ALTER TABLE conversations RENAME TO conversations_before")
    op.execute("PRAGMA legacy_alter_table = OFF")
    op.execute(f"CREATE TABLE conversations ({_CONVERSATIONS})")
    op.execute(
        "INSERT INTO conversations (id, channel, sender, site, visitor, status, created_at, seen_at) "
        "SELECT id, channel, sender, site, id, status, created_at, created_at FROM conversations_before"
    )
    op.drop_index("ix_conversations_status", table_name="conversations_before")
    op.create_index(op.f("ix_conversations_status"), "conversations", ["status"], unique=False)
    op.create_index(op.f("ix_conversations_visitor"), "conversations", ["visitor"], unique=False)
