"""Exceptions that are the caller's fault: a refused request is neither a prediction nor a failure."""

from collections.abc import Callable

from gnomon_schemas.errors import ConfigurationError

Ignored = tuple[type[BaseException], ...] | Callable[[BaseException], bool]
_SERVER_ERROR = 500
_STATUS_NAMES = ("status_code", "code", "status")
"""The names of an exception's HTTP status in FastAPI and Starlette, werkzeug, and aiohttp."""


def checked_ignored(ignored: object) -> None:
    """Raise ConfigurationError unless this is a tuple of exception types or a callable."""
    kinds = ignored if isinstance(ignored, tuple) else ()
    if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        raise ConfigurationError(f"ignore must be a tuple of exception types or a callable, not {ignored!r}")
    if not isinstance(ignored, tuple) and (isinstance(ignored, type) or not callable(ignored)):
        raise ConfigurationError(f"ignore must be a tuple of exception types or a callable, not {ignored!r}")


def is_rejection(error: BaseException, ignored: Ignored) -> bool:
    """Return whether `error` is ignored: by the callable, or by its type unless its HTTP status is 500 or more."""
    if not isinstance(ignored, tuple):
        return bool(ignored(error))
    if not isinstance(error, ignored):
        return False
    status = next((found for name in _STATUS_NAMES if type(found := getattr(error, name, None)) is int), None)
    return status is None or status < _SERVER_ERROR
