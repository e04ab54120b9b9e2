"""Features that are not listed do not leave the process; identifiers leave it as pseudonyms."""

import hashlib
import hmac
import logging
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from tests.support.tap import GOOD, captures, make_tap, raw_messages, records

from gnomon_producer.privacy import Event

CANARY = "canary-8f3b1c"
KEY = b"a key that the shadow side does not have"


def pseudonym(text: str) -> str:
    return hmac.new(KEY, text.encode(), hashlib.sha256).hexdigest()


class Talkative:
    """An unlisted value that appears wherever it is shown."""

    def __repr__(self) -> str:
        return CANARY

    __str__ = __repr__


def all_bytes(bootstrap: str, stream: str) -> bytes:
    """Return every byte in every topic of the stream."""
    topics = list(AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=10).topics)
    found = [message for topic in topics if stream in topic for message in raw_messages(bootstrap, topic)]
    assert len(found) >= 10
    return b"\n".join(
        part
        for message in found
        for part in (message.key, message.value, *(name.encode() + value for name, value in message.headers))
    )


def test_a_canary_is_in_no_topic_and_in_no_log(
    mock_bootstrap: str, stream_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    tap = make_tap(
        mock_bootstrap,
        stream_name,
        allowed_features=("amount", "visits"),
        strata=lambda features, segments: str(sorted(features)),
        segments=("amount", "country"),
        before_send=lambda event: None if CANARY in str(event) else event,
        properties={"compression.type": "none"},
    )
    secret: dict[str, Any] = {"country": CANARY, "iban": CANARY, CANARY: CANARY, "talk": Talkative()}
    with caplog.at_level(logging.DEBUG):
        for number in range(20):
            tap.record(f"r{number}", GOOD | secret, value=1.0)
        with pytest.raises(ValueError, match=CANARY), tap.capture("failed", GOOD | secret):
            raise ValueError(CANARY)
        tap.record("wrong", GOOD | secret | {"amount": CANARY}, value=1.0)
        tap.record("wrong", GOOD | secret, value=CANARY)
        tap.record("wrong", GOOD | secret, scores=CANARY)
        tap.record("wrong", GOOD | secret, value=1.0, captured_at=CANARY)
        tap.record("shown", GOOD, value=1.0, cluster=CANARY)
        tap.label("r1", value=CANARY)
        assert tap.close()
    assert tap.stats().delivered == 21
    assert tap.stats().dropped == {"invalid_features": 4, "privacy_error": 1}
    everything = all_bytes(mock_bootstrap, stream_name)
    assert CANARY.encode() not in everything
    assert b"iban" not in everything
    assert b"country" not in everything
    assert CANARY not in caplog.text
    assert captures(mock_bootstrap, stream_name)[0]["stratum"] == "['amount', 'visits']"


def test_before_send_changes_and_drops(mock_bootstrap: str, stream_name: str) -> None:
    def before_send(event: Event) -> Event | None:
        if event["request_id"] == "drop":
            return None
        if event["request_id"] == "raise":
            raise LookupError
        if event["request_id"] == "garble":
            return {"nothing": "of use"}
        event["features"]["country"] = None
        event["segments"]["seen"] = "yes"
        return event

    tap = make_tap(mock_bootstrap, stream_name, before_send=before_send)
    for request_id in ("drop", "keep", "raise", "garble"):
        tap.record(request_id, GOOD, value=1.0)
    assert tap.close()
    assert tap.stats().dropped == {"privacy_error": 3}
    (record,) = captures(mock_bootstrap, stream_name)
    assert (record["request_id"], record["sequence"]) == ("keep", 1)
    assert record["features"] == GOOD | {"country": None}
    assert record["segments"] == {"seen": "yes"}


@pytest.mark.parametrize("stranger", [lambda event: 7, lambda event: event | {"features": {}}, lambda event: []])
def test_a_before_send_that_answers_nonsense_drops(mock_bootstrap: str, stream_name: str, stranger: Any) -> None:
    tap = make_tap(mock_bootstrap, stream_name, before_send=stranger)
    tap.record("r", GOOD, value=1.0)
    assert tap.close()
    assert sum(tap.stats().dropped.values()) == 1


def test_identifiers_are_hashed_alike_in_captures_and_labels(mock_bootstrap: str, stream_name: str) -> None:
    tap = make_tap(
        mock_bootstrap,
        stream_name,
        hmac_key=KEY,
        hmac_fields=("request_id", "cluster", "country", "tenant"),
        strata=("tenant",),
        segments=("country",),
        before_send=lambda event: None if "acme" in str(event) else event,
        properties={"compression.type": "none"},
    )
    tap.record("customer-4711", GOOD, value=1.0, cluster="user-0815", segments={"tenant": "acme-inc"})
    tap.record("customer-4712", GOOD | {"country": None}, value=1.0)
    tap.label("customer-4711", value=1.0)
    assert tap.close()
    hashed, null = captures(mock_bootstrap, stream_name)
    assert hashed["request_id"] == pseudonym("customer-4711")
    assert hashed["cluster"] == pseudonym("user-0815")
    assert hashed["features"] == GOOD | {"country": pseudonym("CH")}
    assert hashed["segments"] == {"tenant": pseudonym("acme-inc"), "country": pseudonym("CH")}
    assert hashed["stratum"] == pseudonym("acme-inc")
    assert (null["cluster"], null["features"]["country"]) == (None, None)
    (label,) = records(mock_bootstrap, stream_name, "labels")
    assert label["request_id"] == hashed["request_id"]
    live = raw_messages(mock_bootstrap, f"gnomon.{stream_name}.live")
    assert {message.key for message in live} == {hashed["request_id"].encode(), null["request_id"].encode()}
    for topic in ("live", "labels"):
        for message in raw_messages(mock_bootstrap, f"gnomon.{stream_name}.{topic}"):
            for secret in (b"customer", b"user-", b"acme"):
                assert secret not in message.key + message.value + str(message.headers).encode()


def test_an_identifier_that_is_no_text_cannot_be_hashed(mock_bootstrap: str, stream_name: str) -> None:
    tap = make_tap(mock_bootstrap, stream_name, hmac_key=KEY, hmac_fields=("visits",))
    tap.record("r", GOOD, value=1.0)
    assert tap.close()
    assert tap.stats().dropped == {"privacy_error": 1}
