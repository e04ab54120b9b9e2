"""The first schema: streams, pairs, the ledger, labels, cohorts, producers, dead letters."""

from gnomon_migrations.scripts import run_file

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    run_file("versions/0001_tables.sql")
