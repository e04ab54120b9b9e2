"""Every error of PostgreSQL as one line with a solution and the exit status, for commands and services.

Status 2: a person must change something (a right, a setting, a password, an upgrade). Status 3: the server is
unreachable or too busy, and the same command may succeed later. SQLSTATE decides, not the text, except for a refused
connection, for which libpq gives only the text.
"""

import re
import sys
from enum import Enum

import psycopg
from psycopg import errors

from gnomon_schemas.errors import ConfigurationError, DependencyUnreachableError, GnomonError


class Access(Enum):
    """The purpose of a connection: the role that needs a missing right, and the command that grants it."""

    READ = "grant gnomon_reader to {role}"
    WRITE = "grant gnomon_writer to {role}"
    OWN = "run it as the role that ran `gnomon db upgrade`, which owns the tables"


def remember(error: BaseException, connection: "psycopg.Connection[object]", access: Access, where: str) -> None:
    """Attach the connection's details to an error; `explain` reads them."""
    if isinstance(error, psycopg.Error) and not hasattr(error, "gnomon_access"):
        vars(error).update(gnomon_access=access, gnomon_where=where, gnomon_role=_role(connection))


def _role(connection: "psycopg.Connection[object]") -> str:
    try:
        return connection.info.user
    except psycopg.Error:  # the connection is gone
        return ""


# SQLSTATE or its class -> what it means, and whether waiting may help. The longest match counts.
_UPGRADE = "the tables or functions are not this version's: run `gnomon db upgrade`"
_PLAIN: dict[str, str] = {
    "42P01": _UPGRADE,
    "42703": _UPGRADE,
    "42704": _UPGRADE,
    "42883": _UPGRADE,
    "3F000": _UPGRADE,
    "25P02": "an earlier statement of the transaction failed",
    "25P03": "the session was idle in a transaction for longer than idle_in_transaction_session_timeout",
    "57P05": "the session was ended by idle_session_timeout: raise it for this role",
    "55P03": "another session holds a lock for longer than lock_timeout (pg_blocking_pids() names it): try again later",
    "40": "another transaction interfered: try again",
    "53100": "the server's disk is full",
    "53300": "the server has no free connection: raise max_connections, or use a pooler",
    "53": "the server lacks a resource",
    "57": "the server is shutting down or starting up",
    "58": "the server reports a system error",
    "08": "the connection was lost",
    "XX": "the server has an internal error: see its log",
}
_WAITS = ("25P03", "57P05", "55P03", "40", "53", "57", "58", "08")
_CONFIGURED = ("42P01", "42703", "42704", "42883", "3F000")


def explain(error: BaseException) -> GnomonError | None:
    """Return the GnomonError that explains an error of psycopg or SQLAlchemy; None for any other exception."""
    # Only a command that has loaded SQLAlchemy can raise its errors; the others start without it.
    if "sqlalchemy" in sys.modules:
        from sqlalchemy.exc import DBAPIError, SQLAlchemyError

        if isinstance(error, DBAPIError) and isinstance(error.orig, psycopg.Error):
            error = error.orig
        if isinstance(error, SQLAlchemyError):
            return GnomonError(f"PostgreSQL: {one_line(error)}")
    if not isinstance(error, psycopg.Error):
        return None
    said, state = one_line(error.diag.message_primary or error), error.sqlstate or ""
    if isinstance(error, errors.InsufficientPrivilege):
        return ConfigurationError(_missing_right(error, said))
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return ConfigurationError(
            f"PostgreSQL accepts no writes ({said}): it is a replica, or default_transaction_read_only is on;"
            " set database_url to the primary"
        )
    if isinstance(error, errors.QueryCanceled):
        role = getattr(error, "gnomon_role", "") or "ROLE"
        return ConfigurationError(
            f"PostgreSQL stopped the statement ({said}): ask for a shorter period, or raise the limit,"
            f" alter role {role} set statement_timeout = '10min'"
        )
    meaning = next((_PLAIN[state[:length]] for length in (5, 2) if state[:length] in _PLAIN), None)
    if state.startswith(_CONFIGURED):
        return ConfigurationError(f"{meaning} (PostgreSQL: {said})")
    where = getattr(error, "gnomon_where", "")
    at = f" at {where}" if where else ""
    if state.startswith(_WAITS) or (not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)):
        return DependencyUnreachableError(f"PostgreSQL{at}: {meaning or 'the connection was lost'}: {said}")
    return GnomonError(f"PostgreSQL{at} refuses: {said}" + (f" ({state})" if state else ""))


def _missing_right(error: psycopg.Error, said: str) -> str:
    role = getattr(error, "gnomon_role", "") or "ROLE"
    access: Access = getattr(error, "gnomon_access", Access.OWN)
    way_out = access.value.format(role=f'"{role}"' if re.search(r"[^a-z0-9_]", role) else role)
    if access is not Access.OWN:
        way_out = f"as the owner run `gnomon db roles`, then {way_out}"
    return f"role {role} lacks a right ({said}): {way_out}"


# A refused connection has no SQLSTATE: map libpq's English text to what the user can do.
_REFUSED: tuple[tuple[str, str], ...] = (
    (
        r"password authentication failed|SASL authentication failed",
        "the password is wrong, or has expired (VALID UNTIL): check database_url, PGPASSWORD or the password file",
    ),
    (r"no password supplied|empty password", "the server asks for a password: give it in database_url or PGPASSWORD"),
    (r"pg_hba\.conf", "the server's pg_hba.conf does not allow this role from this host"),
    (r"database \S+ does not exist|no such database", "create it: createdb NAME, then `gnomon db upgrade`"),
    (r"role \S+ does not exist|no such user", "create the role, or set another user in database_url"),
    (r"not permitted to log in", "the role has no LOGIN: alter role … login"),
    (r"permission denied for database", "the role may not connect: grant connect on database … to …"),
    (r"(peer|ident|LDAP|PAM|GSSAPI|certificate) authentication failed", "the server refuses the login"),
    (
        r"certificate verify failed|root certificate file|server certificate for|certificate authority",
        "the server's certificate is not trusted: check sslmode and sslrootcert",
    ),
    (
        r"requires a valid client certificate|SSL error: .* alert",
        "the server rejects the client's certificate: check sslcert and sslkey",
    ),
    (r"does not support SSL|SSL was required", "the server has no TLS: check sslmode"),
    (r"certificate file|private key file|could not load", "check sslcert, sslkey and sslpassword"),
    (r"definition of service|service file", "check the service in database_url or PGSERVICE, and the service file"),
    (r"unsupported startup parameter", "the pooler refuses a parameter of database_url: remove it there"),
    (r"invalid (sslmode|channel_binding|gssencmode|target_session_attrs|load_balance|min_protocol|ssl)", "check it"),
    (r"invalid integer value|invalid connection option", "check the numbers in database_url"),
    (r"could not match \d+ .* to \d+ host", "give one port for all hosts, or one for each"),
    (r"weak sslmode", "check sslmode and sslnegotiation"),
    (r"authentication method requirement|channel binding required", "check require_auth and channel_binding"),
    (r"GSSAPI encryption required", "check gssencmode"),
    (
        r"unrecognized configuration parameter|invalid value for parameter",
        "check `options` in database_url, and PGOPTIONS",
    ),
    (r"cannot connect to invalid database", "its removal was interrupted: drop it, and create it again"),
)


# The server's own message, in its language, follows its severity and two spaces; libpq's messages have another form.
_ANSWERED = re.compile(r"failed: \S+ ?:  ")
_PASSES = re.compile(
    r"the database system is|connection slots|too many (connections|clients)|terminating connection"
    r"|not currently accepting connections"
    # pgbouncer's
    r"|server_login_retry|_timeout|no more connections allowed|pgbouncer |is (paused|disabled)|server closed"
)
_NOT_THE_KIND = re.compile(r"session is (not )?read-only|server is (not )?in hot standby mode")


def refused(error: psycopg.Error, where: str) -> GnomonError:
    """Return the error for a failed connection: status 2 if the server refuses, 3 if none answers."""
    said = one_line(error)
    if "Multiple connection attempts failed" in said:
        said = said.partition(" Multiple connection attempts failed")[0] + " (and the other hosts)"
    for pattern, way_out in _REFUSED:
        if re.search(pattern, one_line(error)):
            return ConfigurationError(f"PostgreSQL at {where} refuses the connection: {said}: {way_out}")
    if isinstance(error, psycopg.ProgrammingError):
        return ConfigurationError(f"PostgreSQL at {where} refuses the connection: {said}")
    if _NOT_THE_KIND.search(said):
        return DependencyUnreachableError(f"PostgreSQL at {where} does not satisfy target_session_attrs: {said}")
    if _ANSWERED.search(str(error)):
        if _PASSES.search(said):
            return DependencyUnreachableError(f"PostgreSQL at {where} accepts no connections now: {said}")
        return DependencyUnreachableError(
            f"PostgreSQL at {where} refuses the connection: {said}: check password, role and database; with"
            " lc_messages = 'C' in the server's configuration, Gnomon can name the cause"
        )
    return DependencyUnreachableError(f"no PostgreSQL at {where}: {said}")


def one_line(error: object) -> str:
    """Return the text without line breaks."""
    return " ".join(str(error).split())
