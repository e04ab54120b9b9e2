"""Redaction: replaces the secrets of the settings in all text that this process writes.

This is the second line of defence: our own errors contain no secrets, but libraries write their own texts.
"""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from urllib.parse import unquote

from gnomon_consumer.settings import Settings, is_secret
from gnomon_schemas.errors import ConfigurationError

MASK = "…"
SHORTEST = 4
"""Characters: hiding a shorter text would hide parts of ordinary words."""
# Credentials in any URL: everything between the scheme and the last @ before a space or quote.
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^\s\"'<>@]*:[^\s\"'<>]*@")
_ENVIRONMENT = ("PGPASSWORD", "PGSSLPASSWORD", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_LONG_PATH = 16
_hidden: set[str] = set()


def hide(secrets: Iterable[str]) -> None:
    """Replace these texts from now on, as given and percent-encoded."""
    for secret in secrets:
        _hidden.update(form for form in (secret, unquote(secret)) if len(form) >= SHORTEST)


def hide_secrets_of(settings: Settings) -> None:
    """Hide the secrets of these settings and of libpq's environment."""
    from gnomon_consumer.database.url import parse_database_url  # loads psycopg, which only some commands need

    hide(filter(None, map(os.environ.get, _ENVIRONMENT)))
    if (secret := settings.events.secret) is not None:
        hide((secret.get_secret_value(),))
    if (webhook := settings.events.url) is not None:
        # A chat lets every client that knows the URL of its webhook write there, so the path is a secret.
        rest = webhook.partition("://")[2].partition("/")[2]
        hide((*_credentials(webhook), *_token(webhook), *([rest] if len(rest) >= _LONG_PATH else [])))
    for address in (settings.verdict.way_back.mlflow_uri, os.environ.get("MLFLOW_TRACKING_URI")):
        if address is not None and "://" in address:
            hide((*_credentials(address), *_token(address)))
    if (authorization := settings.score.model_authorization) is not None:
        hide((authorization.get_secret_value(), authorization.get_secret_value().partition(" ")[2]))
    for name, value in settings.kafka.properties.items():
        if is_secret(name):
            hide((value, value.partition(":")[2]))
        if "://" in value and "@" in value:
            hide(_credentials(value))
    if settings.database_url is not None:
        hide(_credentials(settings.database_url))
        with suppress(ConfigurationError):  # the command that uses the URL reports the error
            hide(parse_database_url(settings.database_url).secrets)


def _credentials(url: str) -> list[str]:
    userinfo = url.partition("://")[2].rpartition("@")[0]
    return [userinfo.partition(":")[2], userinfo] if ":" in userinfo else []


def _token(url: str) -> list[str]:
    """Return the text before the @ of an HTTP address: without a password it is a token, not a user name."""
    authority = url.partition("://")[2].partition("/")[0]
    return [authority.rpartition("@")[0]]


def redact(text: str) -> str:
    """Return the text without known secrets."""
    text = _USERINFO.sub(rf"\g<scheme>{MASK}@", text)
    for secret in sorted(_hidden, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text
