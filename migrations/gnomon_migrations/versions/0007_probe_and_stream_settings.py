"""The exact probability of the latency probe; what a stream declares of its task, classes and tolerance."""

from gnomon_migrations.scripts import run_file

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns; give pairs of earlier versions an approximate probability and say so of their windows."""
    run_file("versions/0007_probe_and_stream_settings.sql")
