"""Erase one request, and count the removed rows in the ledger."""

from dataclasses import dataclass

from psycopg import sql

from gnomon_consumer.database.connections import Connection
from gnomon_consumer.database.maintenance import SQL, count_removed, scalar
from gnomon_schemas.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Erased:
    """The rows that `erase` removed, and the source coordinates at which Kafka may still hold the request."""

    pairs: int
    dead_letters: int
    labels: int
    coordinates: list[tuple[int, int]]


def erase(connection: Connection, stream: str, request_id: str) -> Erased:
    """Remove every row of one request in one transaction: pairs, dead-letter pointers, labels. Counts stay."""
    with connection.transaction():
        stream_id = scalar(connection, SQL["stream_id"], [stream])
        if stream_id is None:
            raise ConfigurationError(f"the database has no stream {stream!r}")
        connection.execute(SQL["forget_cohort_estimates"], [stream_id])
        connection.execute(SQL["make_erased_rows"])
        taken = connection.execute(SQL["erase_pairs"], [request_id, stream_id]).rowcount
        letters = connection.execute(SQL["erase_dead_letters"], [request_id, stream_id]).rowcount
        connection.execute(count_removed("erased", sql.Identifier("erased_rows")))
        labels = connection.execute(SQL["erase_labels"], [stream_id, request_id]).rowcount
        places = connection.execute(SQL["erased_coordinates"])
        coordinates = [(row[0], row[1]) for row in places.fetchall()]
    return Erased(taken, letters, labels, coordinates)
