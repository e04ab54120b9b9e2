"""The former name of the scorer's test kit, for small scripts outside of the repository."""

from tests.support.live_stream import save, write_sidecar

__all__ = ["save", "write_sidecar"]
