"""Times in records: microseconds since the Unix epoch, UTC. The only impure function here reads the wall clock."""

import time
from datetime import UTC, datetime, timedelta

from gnomon_schemas.times import checked_microseconds

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_US = 3_600_000_000
EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999, which a datetime can hold."""
_DIGITS_OF_A_DATE = 8
"""20130401 is a date in ISO 8601."""


def moment(micros: int) -> datetime:
    """Return microseconds since the Unix epoch as a datetime in UTC."""
    return EPOCH + timedelta(microseconds=micros)


def instant(name: str, text: str) -> datetime:
    """Return the time that a person wrote: ISO 8601, in UTC if it names no zone, or microseconds since the epoch.

    Raises ValueError for a number in another unit and for any other text; the error contains `name`.
    """
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) > _DIGITS_OF_A_DATE:
        return moment(checked_microseconds(name, int(text)))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{name}: '{text}' is not a valid time; write 2013-04-01 or 2013-04-01T06:00:00+02:00"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def interval_text(span: timedelta) -> str:
    """Return a span as people write it and PostgreSQL reads it: `30 days`, `1 hour`, `1 day 0:05:00`."""
    rest = span - timedelta(days=span.days)
    hours = rest / timedelta(hours=1)
    parts = [_counted(span.days, "day")] if span.days else []
    if rest or not parts:
        parts.append(_counted(round(hours), "hour") if hours.is_integer() else str(rest))
    return " ".join(parts)


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def now_us() -> int:
    """Return the wall clock in microseconds since the Unix epoch; pure code gets it as an argument."""
    return time.time_ns() // 1000
