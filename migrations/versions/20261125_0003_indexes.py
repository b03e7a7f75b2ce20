"""Indexes for what look-ups ask: which masks never held a date, and what had been written by a moment."""

from alembic import op

revision = "20261125_0003"
down_revision = "20261125_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_assignments_mask_id"), "assignments", ["mask_id"], unique=False)
    op.create_index(op.f("ix_transactions_at_us"), "transactions", ["at_us"], unique=False)
