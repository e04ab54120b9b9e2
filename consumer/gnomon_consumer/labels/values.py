"""Convert the cells of a label file to the fields of a Label. No I/O."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from gnomon_consumer.times import EPOCH
from gnomon_schemas.errors import ConfigurationError
from gnomon_schemas.texts import is_missing, text_of
from gnomon_schemas.times import checked_microseconds

_GROUPED = re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d*)?")
"""A number whose points separate thousands; `0.5` is none, and would be read as 5."""


@dataclass(frozen=True, slots=True)
class Formats:
    """The notation of a file for values that have no type in CSV.

    `times` is a format of `strptime` for the columns of times, such as `%d.%m.%Y`; ISO 8601 is always read. With
    `decimal_comma` a number is written `0,5`.
    """

    times: str | None = None
    decimal_comma: bool = False

    def __post_init__(self) -> None:
        if self.times is None:
            return
        try:
            datetime.strptime(datetime(2001, 2, 3, tzinfo=UTC).strftime(self.times), self.times)  # noqa: DTZ007
        except ValueError as error:
            raise ConfigurationError(f"--date-format {self.times}: {error}") from None
        if "%d" not in self.times and "%j" not in self.times and self.times not in ("%c", "%x"):
            raise ConfigurationError(f"--date-format {self.times}: it has no day (%d)")


def is_empty(value: Any) -> bool:
    """Return whether a cell holds nothing: empty, null, NaN, NaT."""
    return not value.strip() if isinstance(value, str) else is_missing(value)


def text(name: str, value: Any) -> str | None:
    """Return a cell's text, None for an empty one; raise NotTextError for several values."""
    return None if value is None or (not isinstance(value, str) and is_missing(value)) else text_of(name, value)


def number(name: str, value: Any, formats: Formats = Formats()) -> float | None:
    """Return a cell's number, None for an empty one and for NaN; raise ValueError if it is not a finite number."""
    if is_empty(value):
        return None
    if isinstance(value, str) and formats.decimal_comma:
        if "." in value and not _GROUPED.fullmatch(value.strip()):
            raise ValueError(
                f"{name}: {value!r} has a point that is not a thousands separator, in a file with --decimal-comma"
            )
        value = value.replace(".", "").replace(",", ".")
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        hint = "; with --decimal-comma 0,5 is a number" if isinstance(value, str) and "," in value else ""
        raise ValueError(f"{name}: {value!r} is not a number{hint}") from None
    if math.isinf(found):
        raise ValueError(f"{name}: {value!r} is infinite")
    return None if math.isnan(found) else found


def items(name: str, value: Any, one: Callable[[str, Any], Any]) -> list[Any] | None:
    """Return a cell's list, which CSV writes as JSON; raise ValueError for another value, or a missing item."""
    if value is None or is_empty(value):
        return None
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"{name}: {value[:100]!r} is not a list in JSON") from None
    if not isinstance(value, list):
        raise ValueError(f"{name}: {value!r} is not a list")  # noqa: TRY004 - bad data, not a bad argument
    found = [one(name, item) for item in value]
    if None in found:
        raise ValueError(f"{name}: an item of the list is missing")
    return found


def microseconds(name: str, value: Any, formats: Formats) -> int | None:
    """Return a time as microseconds since the Unix epoch, None for an empty cell.

    A text is read in the file's own format or as ISO 8601; it is UTC unless it names a zone. A number is microseconds.
    Raises ValueError for a number in another unit and for any other text.
    """
    if is_empty(value):
        return None
    if isinstance(value, str):
        value = _parsed(name, value.strip(), formats.times)
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        span: timedelta = aware - EPOCH
        return (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds
    if isinstance(value, date):
        return microseconds(name, datetime.combine(value, time(), UTC), formats)
    if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
        raise ValueError(f"{name}: {value!r} is not a time; give ISO 8601 or whole microseconds")
    return checked_microseconds(name, int(value))


def _parsed(name: str, value: str, form: str | None) -> datetime | int:
    if form is not None:
        try:
            return datetime.strptime(value, form)  # noqa: DTZ007 - a time without a zone is UTC, see above
        except ValueError:
            pass
    if value.lstrip("-").isdigit() and value.isascii():
        if len(value) == 8:
            raise ValueError(f"{name}: {value!r} may be a date; give --date-format %Y%m%d")
        return int(value)
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        hint = f" nor of the form {form}" if form else "; give --date-format, such as %d.%m.%Y"
        raise ValueError(f"{name}: {value!r} is not a time in ISO 8601{hint}") from None
