"""What the reports computed of sealed cohorts, which do not change."""

from gnomon_migrations.scripts import run_file

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    run_file("versions/0004_cohort_estimates.sql")
