"""The roles that read and write Gnomon's schemas."""

from psycopg import errors, sql

from gnomon_consumer.database.connections import Connection
from gnomon_consumer.database.queries import queries_of
from gnomon_schemas.errors import ConfigurationError

SQL = queries_of(__package__)
ROLES = ("gnomon_writer", "gnomon_reader")
# Printed for an administrator, not run.
_CREATE = """do $$
begin
    if not exists (select from pg_roles where rolname = '{0}') then
        create role {0} nologin;
    end if;
end
$$;
"""
_SCRIPT_HEAD = (
    "-- Run it in Gnomon's database, as a superuser or as a role with CREATEROLE that owns Gnomon's tables.\n"
)


def roles_sql() -> str:
    """Return the statements of `make_roles` for a database administrator; they may be run again."""
    return _SCRIPT_HEAD + "".join(_CREATE.format(role) for role in ROLES) + "select gnomon.grant_roles();\n"


def make_roles(connection: Connection) -> list[str]:
    """Create missing roles and grant both their rights; return the new ones.

    Raises ConfigurationError if the session's role does not own the tables or may not create roles.
    """
    made: list[str] = []
    with connection.transaction():
        _require_owner(connection)
        for role in ROLES:
            if connection.execute(SQL["role"], [role]).fetchone() is None:
                try:
                    with connection.transaction():
                        connection.execute(SQL.template("create_role").format(role=sql.Identifier(role)))
                except (errors.DuplicateObject, errors.UniqueViolation):
                    continue  # roles belong to the server: another database's `db roles` was quicker
                except errors.InsufficientPrivilege as error:
                    raise ConfigurationError(
                        f"role {connection.info.user} may not create {role}: it has no CREATEROLE; give the output of"
                        " `gnomon db roles --sql` to a database administrator"
                    ) from error
                made.append(role)
        connection.execute(SQL["grant_roles"])
    return made


def _require_owner(connection: Connection) -> None:
    """Require the owner: in PostgreSQL, a grant by any other role grants nothing and raises no error."""
    row = connection.execute(SQL["owner"]).fetchone()
    if row is not None and not row[0]:
        raise ConfigurationError(
            f"role {connection.info.user} does not own Gnomon's tables and can grant nothing: run it as {row[1]}"
        )
