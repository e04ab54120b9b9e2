"""The reader of `database_url`: it accepts every form that libpq knows, and no error contains a part of a secret."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg.conninfo import conninfo_to_dict

from gnomon_schemas.errors import ConfigurationError

CONNECT_SECONDS = 10
SECRET_PARAMETERS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
# Parameters of other drivers that people copy into the URL, and libpq's names for them. An error repeats no other
# parameter name: after an unescaped &, the tail of a password looks like a name.
_FOREIGN = {
    "sslMode": "sslmode=…",
    "ssl_mode": "sslmode=…",
    "timeout": "connect_timeout=…",
    "connectTimeout": "connect_timeout=…",
    "connection_timeout": "connect_timeout=…",
    "username": "user=…",
    "database": "dbname=…",
    "schema": "nothing: Gnomon's tables are in the schema gnomon",
    "currentSchema": "nothing: Gnomon's tables are in the schema gnomon",
    "search_path": "nothing: Gnomon's tables are in the schema gnomon",
    "pgbouncer": "nothing: Gnomon works through pgbouncer as it is",
    "prepared_statements": "nothing: Gnomon works through pgbouncer as it is",
    "pool_size": "nothing: Gnomon keeps no pool",
    "connection_limit": "nothing: Gnomon keeps no pool",
}
_WRITE = "write postgresql://USER:PASSWORD@HOST:PORT/DATABASE (setting database_url, environment GNOMON_DATABASE_URL)"
_ESCAPE = "in user and password write @ as %40, / as %2F, : as %3A, ? as %3F, % as %25, # as %23, & as %26"
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
# A silently lost connection is detected within half a minute, also while bytes wait to be acknowledged.
_LIVENESS = {
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """The address of the database: libpq's parameters, and a text without secrets that names it."""

    parameters: Mapping[str, str]

    @property
    def shown(self) -> str:
        """Return role, hosts and database, as a URL."""
        given = self.parameters
        if not {"host", "hostaddr", "dbname", "user"} & given.keys():
            return f"service {given['service']}" if "service" in given else "libpq's default address"
        role = f"{given['user']}@" if "user" in given else ""
        hosts = (given.get("host") or given.get("hostaddr") or "").split(",")
        ports = given.get("port", "").split(",")
        ports = ports if len(ports) == len(hosts) else ports[:1] * len(hosts)
        places = ",".join(
            (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
            for host, port in zip(hosts, ports, strict=True)
        )
        return f"postgresql://{role}{places}/{given.get('dbname', '')}"

    @property
    def several_hosts(self) -> bool:
        """Return whether libpq has more than one host to try."""
        return "," in (self.parameters.get("host") or self.parameters.get("hostaddr") or "")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the texts that must never be shown."""
        return tuple(value for name in SECRET_PARAMETERS if (value := self.parameters.get(name)))

    def connection_parameters(self, application: str, *, writes: bool) -> dict[str, str]:
        """Return libpq's parameters with Gnomon's defaults for what the address leaves open.

        If `writes` is true, libpq looks for the host that accepts writes: after a fail-over the first may be a replica.
        """
        defaults = {"client_encoding": "UTF8", "application_name": application, **_LIVENESS}
        if "service" not in self.parameters:  # a service file's own value would lose against ours
            defaults["connect_timeout"] = str(CONNECT_SECONDS)
        if writes and self.several_hosts:
            defaults["target_session_attrs"] = "read-write"
        return {**defaults, **self.parameters, "client_encoding": "UTF8"}


def parse_database_url(url: str) -> DatabaseAddress:
    """Read a URL or a `key=value` string as libpq does; raise ConfigurationError, which repeats no secret."""
    scheme = _SCHEME.match(url)
    if scheme is not None:
        name, _, driver = scheme[1].partition("+")
        if name not in {"postgresql", "postgres"}:
            raise ConfigurationError(f"database_url begins with {name}://, and Gnomon needs PostgreSQL: {_WRITE}")
        rest = url[scheme.end() :]
        _check_authority(rest)
        # `postgresql+psycopg://` is SQLAlchemy's way to name a driver; libpq knows no such scheme.
        url = f"{name}://{rest}" if driver else url
    elif "=" not in url:
        raise ConfigurationError(f"database_url is neither a URL nor libpq's key=value form: {_WRITE}")
    try:
        parameters = {key: str(value) for key, value in conninfo_to_dict(url).items() if value is not None}
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(_refusal(str(error))) from None
    except UnicodeError:  # by psycopg, of an escape like %E4 or of a byte of the environment
        raise ConfigurationError("database_url has a byte that is not UTF-8: write ä as %C3%A4, not as %E4") from None
    for port in parameters.get("port", "").split(","):
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ConfigurationError(f"the port in database_url is not a number from 1 to 65535; {_ESCAPE}")
    return DatabaseAddress(parameters)


def _check_authority(rest: str) -> None:
    """Refuse a URL that libpq would misread: the end of a password would become a host's name."""
    before_query, mark, query = rest.partition("?")
    authority, slash, path = before_query.partition("/")
    unescaped = authority.count("@") > 1 or (slash and "@" in path)
    if mark and "@" in query and "@" not in authority:
        unescaped = unescaped or "=" not in query.partition("@")[0]
    if unescaped:
        raise ConfigurationError(f"database_url has an unescaped character before its last @: {_ESCAPE}")
    for pair in query.split("&") if mark else ():
        if "=" not in pair:
            raise ConfigurationError(f"database_url has a query parameter without a value: {_ESCAPE}")


def _refusal(libpq: str) -> str:
    """Return the reason in our own words, because libpq's message repeats the offending text."""
    named = re.match(r'invalid (?:URI query parameter|connection option)[: ]*"([^"]*)"', libpq)
    if named is not None:
        instead = _FOREIGN.get(named[1])
        if instead is not None:
            return f"database_url has the parameter {named[1]}, which libpq does not know: write {instead}"
        return f"database_url has a parameter that libpq does not know; {_ESCAPE}"
    if "percent-encoded" in libpq:
        return f"database_url has a % that does not begin an escape; {_ESCAPE}"
    if "://" in libpq or "URI" in libpq:
        return f"database_url is not a URL that libpq can read; {_ESCAPE}"
    return "database_url is not libpq's key=value form: quote a value with spaces, password='…'"
