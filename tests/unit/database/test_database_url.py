"""`database_url` in every form that libpq knows, and the forms that people write by mistake."""

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gnomon_consumer.database.errors import refused
from gnomon_consumer.database.url import parse_database_url
from gnomon_schemas.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "parameters", "shown"),
    [
        ("postgresql://u:a%20b%40@h:5433/d", {"password": "a b@", "port": "5433"}, "postgresql://u@h:5433/d"),
        ("postgres://u@h/d", {"user": "u"}, "postgresql://u@h/d"),
        ("postgresql+psycopg://u@h/d", {"host": "h"}, "postgresql://u@h/d"),
        ("postgresql://u@a:1,b:2/d", {"host": "a,b", "port": "1,2"}, "postgresql://u@a:1,b:2/d"),
        ("postgresql://u@[::1]:5432/d", {"host": "::1"}, "postgresql://u@[::1]:5432/d"),
        ("postgresql://%2Fvar%2Frun/d", {"host": "/var/run"}, "postgresql:///var/run/d"),
        ("postgresql:///d?host=/run&user=u", {"host": "/run"}, "postgresql://u@/run/d"),
        ("postgresql://h/d?sslmode=require&password=x%26y", {"password": "x&y"}, "postgresql://h/d"),
        ("host=h dbname=d password='a b'", {"password": "a b"}, "postgresql://h/d"),
        ("postgresql://h/d?ssl=true", {"sslmode": "require"}, "postgresql://h/d"),
        ("service=prod", {"service": "prod"}, "service prod"),
        ("postgresql://?service=prod", {"service": "prod"}, "service prod"),
    ],
)
def test_the_forms_of_libpq(url: str, parameters: dict[str, str], shown: str) -> None:
    address = parse_database_url(url)
    assert parameters.items() <= address.parameters.items()
    assert address.shown == shown


SECRET = "canary7Secret"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"postgresql://u:{SECRET}@{SECRET}@h/d", "unescaped character"),
        (f"postgresql://u:a/{SECRET}@h/d", "unescaped character"),
        (f"postgresql://u:a?{SECRET}@h/d", "unescaped character"),
        (f"postgresql://u:a%zz{SECRET}@h/d", "does not begin an escape"),
        (f"postgresql://u:{SECRET}%E4@h/d", "not UTF-8"),
        (f"postgresql://u:{SECRET}\udce4@h/d", "not UTF-8"),
        (f"host=h password={SECRET}\udce4", "not UTF-8"),
        (f"postgresql://u:{SECRET}", "the port"),
        (f"postgresql://u:p@h:{SECRET}/d", "the port"),
        (f"postgresql://h/d?password=a&{SECRET}", "without a value"),
        (f"postgresql://h/d?{SECRET}=1", "does not know"),
        ("postgresql://h/d?sslMode=require", "write sslmode="),
        ("postgresql://h/d?pgbouncer=true", "Gnomon works through pgbouncer"),
        (f"host=h password=a {SECRET}", "key=value form"),
        (f"host=h password='{SECRET}", "key=value form"),
        (f"mysql://u:{SECRET}@h/d", "Gnomon needs PostgreSQL"),
        (SECRET, "neither a URL"),
    ],
)
def test_a_mistake_is_named_and_repeats_no_secret(url: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_database_url(url)
    assert words in str(raised.value)
    assert SECRET not in str(raised.value)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30))
def test_any_password_that_is_escaped_arrives(password: str) -> None:
    from urllib.parse import quote

    address = parse_database_url(f"postgresql://u:{quote(password, safe='')}@h/d")
    assert address.parameters["password"] == password
    assert address.shown == "postgresql://u@h/d"


@given(st.text(max_size=40))
@example("%80")
@example("\udc80")
def test_any_text_is_an_address_or_an_error_of_ours(text: str) -> None:
    for url in (text, f"postgresql://{text}", f"postgresql://u:{text}@h/d", f"postgresql://h/d?{text}"):
        try:
            address = parse_database_url(url)
        except ConfigurationError:
            continue
        assert isinstance(address.shown, str)


def test_of_several_hosts_a_writer_looks_for_the_primary() -> None:
    several, single = parse_database_url("postgresql://a,b/d"), parse_database_url("postgresql://a/d")
    assert several.connection_parameters("x", writes=True)["target_session_attrs"] == "read-write"
    assert "target_session_attrs" not in several.connection_parameters("x", writes=False)
    assert "target_session_attrs" not in single.connection_parameters("x", writes=True)
    own = parse_database_url("postgresql://a,b/d?target_session_attrs=any&connect_timeout=3")
    assert own.connection_parameters("x", writes=True)["target_session_attrs"] == "any"
    assert own.connection_parameters("x", writes=True)["connect_timeout"] == "3"


@pytest.mark.parametrize(
    ("said", "status", "words"),
    [
        ("FATAL:  Passwort-Authentifizierung für Benutzer »g« fehlgeschlagen", 3, "check password, role and database"),
        ("FATAL :  le rôle « g » n'existe pas", 3, "lc_messages = 'C'"),
        ("FATAL:  kein pg_hba.conf-Eintrag für Host »127.0.0.1«", 2, "does not allow this role"),
        ('FATAL:  password authentication failed for user "g"', 2, "the password is wrong"),
        ("FATAL:  the database system is starting up", 3, "accepts no connections now"),
        ("FATAL:  sorry, too many clients already", 3, "accepts no connections now"),
        ('FATAL:  database "g" is not currently accepting connections', 3, "accepts no connections now"),
        (
            "FATAL:  server login has been failing, try again later (server_login_retry)",
            3,
            "accepts no connections now",
        ),
        ("FATAL:  query_wait_timeout", 3, "accepts no connections now"),
        ('FATAL:  cannot connect to invalid database "g"', 2, "its removal was interrupted"),
        ('FATAL:  unrecognized configuration parameter "a"', 2, "check `options`"),
        ("session is read-only", 3, "target_session_attrs"),
        ("Connection refused\n\tIs the server running on that host?", 3, "no PostgreSQL at"),
    ],
)
def test_a_server_that_refuses_in_another_language_is_not_called_absent(said: str, status: int, words: str) -> None:
    error = psycopg.OperationalError(f'connection failed: connection to server at "h", port 5432 failed: {said}')
    found = refused(error, "postgresql://g@h/g")
    assert found.exit_status == status
    assert words in str(found)
    assert ("no PostgreSQL" in str(found)) == (words == "no PostgreSQL at")
