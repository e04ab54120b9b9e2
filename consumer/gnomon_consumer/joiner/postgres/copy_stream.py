"""COPY without waiting: one thread reads and assembles while PostgreSQL receives the encoded rows."""

import os
import select
import socket
from collections.abc import Generator, Iterable
from functools import cache
from typing import Any

import psycopg
from psycopg import copy, errors, pq, sql
from psycopg.abc import Buffer

_ROOM = 4 << 20
"""Bytes: the amount of rows that a server processes in about ten milliseconds."""

Steps = Generator[int, None, None]
"""A generator that yields, instead of waiting for a socket, the events (of `select.poll`) for which it waits."""


@cache
def copy_statement(table: str, columns: tuple[str, ...]) -> bytes:
    """Return COPY of a table's columns in text format; composed once, because that takes as long as a small COPY."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    return sql.SQL("copy {} ({}) from stdin").format(sql.Identifier("gnomon", table), names).as_bytes()


def copying(cursor: psycopg.Cursor[Any], statement: str, parts: Iterable[bytes]) -> Steps:
    """Copy `parts`; request each when the one before is sent. Raises PostgreSQL's error at the end."""
    writer = _Writer(cursor)
    with cursor.copy(statement, writer=writer) as stream:
        for part in parts:
            stream.write(part)
            yield from writer.sent()
        yield from writer.answered()


def give_room(connection: psycopg.Connection[Any]) -> None:
    """Allow a large send buffer, from which the server reads while this thread does other work.

    TCP adjusts its buffer itself; a Unix socket has 208 kB by default and gets the system's maximum
    (`net.core.wmem_max`).
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as way:
        if way.family == socket.AF_UNIX:
            way.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)


class _Writer(copy.LibpqWriter):
    """Passes bytes to libpq, which sends what the socket accepts and keeps the rest."""

    _ended = False

    def write(self, data: Buffer) -> None:
        """Begin to send; `sent` continues."""
        self._pgconn.put_copy_data(data)

    def sent(self) -> Steps:
        """Yield until libpq has sent everything."""
        while self._pgconn.flush():
            yield select.POLLIN | select.POLLOUT

    def answered(self) -> Steps:
        """End the COPY, and yield until PostgreSQL has answered."""
        self._pgconn.put_copy_end()
        self._ended = True
        yield from self.sent()
        self._pgconn.consume_input()
        while self._pgconn.is_busy():
            yield select.POLLIN
            self._pgconn.consume_input()

    def finish(self, exc: BaseException | None = None) -> None:
        """Raise PostgreSQL's error, if it answered with one, or end the COPY."""
        if not self._ended:
            super().finish(exc)
            return
        result = last = self._pgconn.get_result()
        while last is not None:
            last = self._pgconn.get_result()
        if result is not None and result.status != pq.ExecStatus.COMMAND_OK:
            raise errors.error_from_result(result, self.connection.info.encoding)
