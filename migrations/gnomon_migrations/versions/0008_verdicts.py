"""Plans, verdicts, promotions and the outbox of their events."""

from gnomon_migrations.scripts import run_file

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    run_file("versions/0008_verdicts.sql")
