"""Windows say why they did not sample all that they saw."""

from gnomon_migrations.scripts import run_file

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    run_file("versions/0003_limited_by.sql")
