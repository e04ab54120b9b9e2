"""The SQL of a package: named statements in its `queries.sql`, which you can read and run in psql.

A statement begins at a line `-- name: its_name`; comment lines below the name describe it. A statement with a table or
column that is chosen at run time is a template, which the caller formats with `psycopg.sql`.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any, cast

from psycopg import sql

_NAME = re.compile(r"^-- name: (\w+)[ \t]*\n", re.MULTILINE)


class Queries(Mapping[str, bytes]):
    """Statements by name, as psycopg executes them."""

    def __init__(self, text: str) -> None:
        _, *parts = _NAME.split(text)
        self._statements = {name: _stripped(body) for name, body in zip(parts[::2], parts[1::2], strict=True)}
        if len(self._statements) < len(parts) // 2:
            raise ValueError("a name occurs twice")

    def __getitem__(self, name: str) -> bytes:
        return self._statements[name].encode()

    def __iter__(self) -> Any:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)

    def template(self, name: str) -> sql.SQL:
        """Return a statement with placeholders {name} for identifiers, to be formatted."""
        return sql.SQL(cast(Any, self._statements[name]))


def rows_of(schema: str, function: str, arguments: Iterable[str]) -> sql.Composed:
    """Return the statement that reads the rows of a function; arguments by name, also as the names of the values."""
    named = (sql.SQL("{} => {}").format(sql.Identifier(key), sql.Placeholder(key)) for key in arguments)
    return sql.SQL("select * from {}({})").format(sql.Identifier(schema, function), sql.SQL(", ").join(named))


def _stripped(body: str) -> str:
    """Return a statement without its comments, which PostgreSQL would log with every error."""
    return "\n".join(line for line in body.splitlines() if line.strip() and not line.lstrip().startswith("--"))


@cache
def queries_of(package: str) -> Queries:
    """Return the statements of `queries.sql` in a package; raises FileNotFoundError or ValueError."""
    return Queries(resources.files(package).joinpath("queries.sql").read_text(encoding="utf-8"))
