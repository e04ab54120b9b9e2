"""COPY that never waits by itself: one thread reads and assembles while PostgreSQL takes what was laid out."""

import os
import select
import socket
from collections.abc import Generator, Iterable
from typing import Any

import psycopg
from psycopg import copy, errors, pq
from psycopg.abc import Buffer

_ROOM = 4 << 20
"""Bytes: the rows that a server takes some ten milliseconds for."""

Steps = Generator[int, None, None]
"""Work that yields where it would have to wait for a socket: the events (of `select.poll`) that let it go on."""


def copying(cursor: psycopg.Cursor[Any], statement: str, parts: Iterable[bytes]) -> Steps:
    """Copy `parts`; each is asked for when the one before is sent. Raises what PostgreSQL says at the end."""
    writer = _Writer(cursor)
    with cursor.copy(statement, writer=writer) as stream:
        for part in parts:
            stream.write(part)
            yield from writer.sent()
        yield from writer.answered()


def give_room(connection: psycopg.Connection[Any]) -> None:
    """Let much be on its way to the server: what it works off while nobody here looks.

    TCP makes room by itself; a Unix socket, which has 208 kB by default, gets what the system allows at most
    (`net.core.wmem_max`).
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as way:
        if way.family == socket.AF_UNIX:
            way.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)


class _Writer(copy.LibpqWriter):
    """Hands bytes to libpq, which sends what the socket takes and keeps the rest."""

    _ended = False

    def write(self, data: Buffer) -> None:
        """Begin to send; `sent` goes on with it."""
        self._pgconn.put_copy_data(data)

    def sent(self) -> Steps:
        """Until libpq holds nothing back."""
        while self._pgconn.flush():
            yield select.POLLIN | select.POLLOUT

    def answered(self) -> Steps:
        """End the COPY, until PostgreSQL has said what became of it."""
        self._pgconn.put_copy_end()
        self._ended = True
        yield from self.sent()
        self._pgconn.consume_input()
        while self._pgconn.is_busy():
            yield select.POLLIN
            self._pgconn.consume_input()

    def finish(self, exc: BaseException | None = None) -> None:
        """Raise PostgreSQL's answer if it is an error, or tell it that there will be no more."""
        if not self._ended:
            super().finish(exc)
            return
        result = last = self._pgconn.get_result()
        while last is not None:
            last = self._pgconn.get_result()
        if result is not None and result.status != pq.ExecStatus.COMMAND_OK:
            raise errors.error_from_result(result, self.connection.info.encoding)
