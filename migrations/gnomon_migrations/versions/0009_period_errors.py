"""What is kept of cohorts holds the error of the period; rollups are counted anew by the rules of comparing."""

from gnomon_migrations.scripts import run_file

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and count hours anew where the rules of comparing have changed."""
    run_file("versions/0009_period_errors.sql")
