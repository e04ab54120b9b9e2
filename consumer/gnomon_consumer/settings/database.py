"""The settings of what writes to the database and reads it: joiner, label consumer, reports, streams, events."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field, SecretStr

from gnomon_consumer.sections import Section


def _read_time(value: Any) -> Any:
    """Read a time that a person wrote; a number is refused, because 20130401 may be a date or seconds."""
    try:
        found = datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
    except ValueError:
        found = None
    if not isinstance(found, datetime) or found.tzinfo is None:
        raise ValueError("must be a time with its zone, such as 2013-04-01T00:00:00Z")
    return found


ZonedTime = Annotated[AwareDatetime, BeforeValidator(_read_time)]


class JoinSettings(Section):
    """The joiner: how much it reads at once and holds in memory."""

    batch_messages: int = Field(
        default=20_000,
        ge=1,
        le=1_000_000,
        description="Maximum number of messages read from Kafka at once; default 20,000.",
    )
    poll_seconds: float = Field(
        default=0.02, gt=0, le=10, description="Longest wait for a batch of messages, seconds; default 0.02."
    )
    replay_from: ZonedTime | None = Field(
        default=None,
        description="Start of a past period to join again (ISO 8601 with zone), with its partitions; no default.",
    )
    replay_until: ZonedTime | None = Field(
        default=None, description="End of a past period to join again (ISO 8601 with zone); no default."
    )
    held_messages: int = Field(
        default=200_000,
        ge=1,
        le=100_000_000,
        description="Maximum number of messages in memory, all partitions together; then the log that is ahead waits;"
        " default 200,000.",
    )


class LabelSettings(Section):
    """The label consumer: when a partition counts as idle, how often cohorts are sealed."""

    batch_messages: int = Field(
        default=5000,
        ge=1,
        le=1_000_000,
        description="Maximum number of messages read from Kafka at once; default 5000.",
    )
    poll_seconds: float = Field(
        default=0.1, gt=0, le=10, description="Longest wait for a batch of messages, seconds; default 0.1."
    )
    idle_seconds: float = Field(
        default=60.0,
        ge=0,
        le=86_400,
        description="A label partition without a message for this long no longer holds back the watermark, seconds;"
        " default 60.",
    )
    seal_seconds: float = Field(
        default=10.0, gt=0, le=86_400, description="Time between two checks for cohorts to seal, seconds; default 10."
    )


class ReportSettings(Section):
    """The bounds of `gnomon report check`."""

    bounds: tuple[str, ...] = Field(
        default=(),
        description="Bounds that `gnomon report check` checks, such as 'agreement.low >= 0.9'; default none.",
    )
    last_seconds: float | None = Field(
        default=None, gt=0, le=3e9, description="Check only the last seconds of event time; default: all data."
    )


class DeclaredSettings(Section):
    """Properties of a stream; `gnomon streams set`, the joiner and the label commands store them in the database.

    A setting that is left out keeps its value in the database. An empty text or list removes it.
    """

    task: Literal["binary", "multiclass", "regression", "ranking", ""] | None = Field(
        default=None, description="What the stream predicts; default: inferred from answers and labels."
    )
    positive_class: str | None = Field(
        default=None, description="The class that a label's value 1 means, as the decisions name it; no default."
    )
    negative_class: str | None = Field(
        default=None, description="The class that a label's value 0, or an absent label, means; no default."
    )
    classes: tuple[str, ...] | None = Field(
        default=None, description="All classes of a multi-class stream, as the decisions name them; no default."
    )
    value_tolerance: float | None = Field(
        default=None,
        ge=0,
        lt=float("inf"),
        description="Two values agree when they differ by at most this; stream default 0.",
    )
    relative_tolerance: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Values also agree when they differ by at most this share of the larger; stream default 0.00001.",
    )
    horizons: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=20,
        description="How late a label may arrive, such as '1 hour'; stream default 1, 3 and 7 days.",
    )
    label_kind: Literal["explicit", "absence_is_negative"] | None = Field(
        default=None, description="Whether an absent label means the negative class; stream default explicit."
    )
    label_choice: Literal["first", "last"] | None = Field(
        default=None, description="Which label counts when a request has several in time; stream default last."
    )
    label_grace: str | None = Field(
        default=None, description="How much later than its horizon a label still counts; stream default 0."
    )
    retention: str | None = Field(default=None, description="How long pairs are kept; stream default 400 days.")
    time_zone: str | None = Field(
        default=None,
        min_length=1,
        description="Time zone of the days in reports, such as Europe/Zurich; stream default UTC.",
    )
    granularity: Literal["day", "month"] | None = Field(
        default=None, description="Size of the partitions of pairs, for the whole database; default month."
    )


class EventSettings(Section):
    """Where to send events: verdict changed, promoted, rolled back."""

    url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Webhook that receives CloudEvents by POST, http:// or https://; no default.",
    )
    secret: SecretStr | None = Field(
        default=None, min_length=8, description="Key of the HMAC-SHA256 in X-Gnomon-Signature; no default."
    )
