"""What agreement, kappa, confusion and the errors of long periods are added up from; latency of sealed cohorts."""

from gnomon_migrations.scripts import run_file

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and tables, and fill them from the pairs that are there."""
    run_file("versions/0005_rollups.sql")
