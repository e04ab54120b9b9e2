"""The hook for a live service: `tap = Tap(...)`, then `with tap.capture(request_id, features) as shot`."""

from gnomon_producer.config import TapConfig
from gnomon_producer.disabled import DisabledTap
from gnomon_producer.errors import DROP_REASONS, DropReason
from gnomon_producer.shot import Shot
from gnomon_producer.stats import TapStats
from gnomon_producer.tap import Tap

__all__ = ["DROP_REASONS", "DisabledTap", "DropReason", "Shot", "Tap", "TapConfig", "TapStats", "__version__"]


def __getattr__(name: str) -> str:
    """Return the installed version as `__version__`; it is read on request, because that reads files."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("gnomon")
    except PackageNotFoundError:
        return "0+unknown"
