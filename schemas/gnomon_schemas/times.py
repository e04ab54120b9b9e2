"""Times as integers: microseconds since the Unix epoch; values that look like another unit are refused."""

FIRST_US = 946_684_800_000_000
"""2000-01-01: an earlier integer is a count of seconds or milliseconds, or not a time at all."""
LAST_US = 253_402_300_799_999_999
"""The end of the year 9999."""
_UNITS = (("seconds", 1_000_000, 1), ("milliseconds", 1_000, 1), ("nanoseconds", 1, 1_000))


def checked_microseconds(name: str, number: int) -> int:
    """Return an integer that is a time from 2000 to 9999; raise ValueError that names the unit that it looks like.

    An earlier time can be given as a datetime or a text, whose unit is certain.
    """
    if FIRST_US <= number <= LAST_US:
        return number
    for unit, times, divided_by in _UNITS:
        if FIRST_US <= (likely := number * times // divided_by) <= LAST_US:
            raise ValueError(f"{name}: {number} looks like {unit}; microseconds are expected, such as {likely}")
    raise ValueError(f"{name}: {number} is not a time from 2000 to 9999 in microseconds since 1970")
