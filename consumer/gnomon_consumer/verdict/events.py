"""Events of a deployment (verdict changed, promoted, rolled back) as CloudEvents, from an outbox, at least once."""

import hashlib
import hmac
import json
import urllib.error
import urllib.request
import uuid
from typing import Any

from psycopg.rows import DictRow
from psycopg.types.json import Jsonb
from typing_extensions import override

from gnomon_consumer.database.connections import Connection
from gnomon_consumer.verdict.database import SQL, rows

SECONDS = 10.0


def write(connection: Connection, deployment: DictRow, kind: str, data: dict[str, Any]) -> None:
    """Put an event into the outbox, in the transaction of the change that it reports."""
    connection.execute(
        SQL["add_event"],
        [uuid.uuid4(), deployment["deployment_id"], kind, Jsonb(data)],
    )


def cloud_event(row: DictRow) -> bytes:
    """Return one event in CloudEvents 1.0's structured mode (application/cloudevents+json)."""
    event = {
        "specversion": "1.0",
        "id": str(row["event_id"]),
        "source": f"/gnomon/{row['stream']}",
        "subject": row["deployment"],
        "type": f"gnomon.{row['kind']}.v1",
        "time": row["created_at"].isoformat(),
        "datacontenttype": "application/json",
        "data": row["data"],
    }
    return json.dumps(event, sort_keys=True).encode()


def signature(secret: str, body: bytes) -> str:
    """Return the value of the header X-Gnomon-Signature: HMAC-SHA256 of the body."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def deliver(connection: Connection, url: str, secret: str | None, most: int = 100) -> tuple[int, str | None]:
    """Post the events of the outbox, oldest first; return how many arrived and the error that stopped it.

    An event is marked only after the receiver answered 2xx, so it may arrive twice: receivers deduplicate by its id.
    Two senders do not send the same events.
    """
    sent = 0
    with connection.transaction():
        waiting = rows(connection, SQL["waiting_events"], {"most": most})
        for row in waiting:
            problem = _post(url, secret, cloud_event(row))
            connection.execute(SQL["event_was_sent"], {"problem": problem, "id": row["event_id"]})
            if problem is not None:
                return sent, problem
            sent += 1
    return sent, None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without the event, whose answer 200 confirms nothing."""

    @override
    def redirect_request(self, *_: Any) -> None:
        """Follow none: the status is an error."""


_OPENER = urllib.request.build_opener(_NoRedirect)


def _post(url: str, secret: str | None, body: bytes) -> str | None:
    headers = {"Content-Type": "application/cloudevents+json"}
    if secret:
        headers["X-Gnomon-Signature"] = signature(secret, body)
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310  # http(s) only
    try:
        with _OPENER.open(request, timeout=SECONDS):
            return None
    except urllib.error.HTTPError as error:
        with error:
            return f"the receiver answered {error.code}"
    except (OSError, ValueError) as error:
        return " ".join(str(getattr(error, "reason", error)).split())
