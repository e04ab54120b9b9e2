"""Which requests are old enough to evaluate their labels. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gnomon_consumer.times import interval_text


@dataclass(frozen=True, slots=True)
class Maturity:
    """The times until which a stream's labels are complete and requests are old enough for each horizon."""

    watermark: datetime | None
    until: Mapping[timedelta, datetime]
    """Horizon to the end of event time that is mature; empty without a watermark."""

    def as_json(self) -> dict[str, Any]:
        """Return times in ISO 8601."""
        return {
            "complete_until": None if self.watermark is None else self.watermark.isoformat(),
            "mature_until": {interval_text(horizon): until.isoformat() for horizon, until in self.until.items()},
        }

    def sentence(self) -> str:
        """Return a sentence on what the reports can show now, and on what is missing if they can show nothing."""
        if self.watermark is None:
            return (
                "no request is mature: it is unknown until when these labels are complete. Load the file again with"
                " --complete-until TIME (every label observed before TIME is known), or run `gnomon labels consume`"
            )
        ends = ", ".join(
            f"{interval_text(horizon)} for requests before {end:%Y-%m-%d %H:%M}" for horizon, end in self.until.items()
        )
        return (
            f"labels are complete until {self.watermark:%Y-%m-%d %H:%M} UTC; mature horizons (UTC): {ends}."
            " `gnomon streams set --horizon SPAN` declares shorter ones"
        )
