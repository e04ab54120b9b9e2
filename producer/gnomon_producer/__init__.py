"""Drop the hook into a live service: `tap = Tap(...)`, then `with tap.capture(request_id, features) as shot`."""

from gnomon_producer.config import TapConfig
from gnomon_producer.errors import DROP_REASONS, DropReason
from gnomon_producer.shot import Shot
from gnomon_producer.stats import TapStats
from gnomon_producer.tap import DisabledTap, Tap

__all__ = ["DROP_REASONS", "DisabledTap", "DropReason", "Shot", "Tap", "TapConfig", "TapStats"]
