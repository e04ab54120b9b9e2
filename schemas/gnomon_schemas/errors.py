"""The root of every exception that Gnomon raises on purpose."""


class GnomonError(Exception):
    """An error with a known cause; its text names the way out, and `exit_status` is the command's status."""

    exit_status = 1


class ConfigurationError(GnomonError):
    """The user gave invalid input: usage, configuration, a model or a schema."""

    exit_status = 2


class DependencyUnreachableError(GnomonError):
    """A broker, database, registry or model server does not answer."""

    exit_status = 3


class SchemaError(ConfigurationError):
    """Gnomon cannot use this schema."""


class DecodeError(GnomonError):
    """A message that cannot be read; `reason` is one of a closed vocabulary, `str()` the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
