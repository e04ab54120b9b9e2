"""What a promotion is about to do, written before it acts."""

from gnomon_migrations.scripts import run_file

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    run_file("versions/0010_promotion_intents.sql")
