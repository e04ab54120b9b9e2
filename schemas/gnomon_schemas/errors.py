"""The root of every exception that Gnomon raises on purpose."""


class GnomonError(Exception):
    """Something that Gnomon can name and whose way out it can tell; `exit_status` is the command's status."""

    exit_status = 1


class ConfigurationError(GnomonError):
    """The user gave something that cannot work: usage, configuration, a model or a schema."""

    exit_status = 2


class DependencyUnreachableError(GnomonError):
    """A broker, database, registry or model server does not answer."""

    exit_status = 3


class SchemaError(ConfigurationError):
    """A schema is not one that Gnomon can carry."""


class DecodeError(GnomonError):
    """A message that cannot be read; `reason` is one of a closed vocabulary, `str()` the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
