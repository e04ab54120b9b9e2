"""Frozen profiles of features and answers, which drift is measured against."""

from gnomon_migrations.scripts import run_file

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    run_file("versions/0002_reference_profiles.sql")
