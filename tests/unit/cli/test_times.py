"""Times that people write on the command line."""

from datetime import UTC, datetime, timedelta

import pytest

from gnomon_consumer.cli.report_options import Moment
from gnomon_consumer.scorer.options import StartAt
from gnomon_consumer.times import instant, interval_text
from gnomon_schemas.errors import ConfigurationError


@pytest.mark.parametrize(
    "text", ["2026-03-01", "20260301", "2026-03-01T01:00+01:00", " 2026-03-01T00:00:00Z ", "1772323200000000"]
)
def test_one_moment_in_every_form(text: str) -> None:
    assert instant("--since", text) == datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1772323200000", "looks like milliseconds; microseconds are expected, such as 1772323200000000"),
        ("1772323200", "looks like seconds"),
        ("1772323200000000000", "looks like nanoseconds"),
        ("123456789", "is not a time from 2000 to 9999"),
        ("yesterday", "is not a valid time; write 2013-04-01"),
        ("\u0661\u0662\u0663\u0664\u0665\u0666\u0667\u0668\u0669", "is not a valid time"),
    ],
)
def test_another_unit_is_refused_with_what_it_looks_like(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        instant("--since", text)
    with pytest.raises(ConfigurationError, match=said):
        StartAt.parse(text)
    with pytest.raises(Exception, match=said):
        Moment().convert(text, None, None)


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (timedelta(days=1), "1 day"),
        (timedelta(days=30, hours=6), "30 days 6 hours"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(minutes=5), "0:05:00"),
        (timedelta(0), "0 hours"),
    ],
)
def test_a_span_is_written_as_it_is_declared(span: timedelta, said: str) -> None:
    assert interval_text(span) == said
