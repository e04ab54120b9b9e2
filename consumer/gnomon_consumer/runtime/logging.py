"""Logging: structlog to standard error, one event with keys and values a line."""

import logging
import sys
from typing import Any

import structlog
from typing_extensions import override

from gnomon_consumer.runtime.redaction import redact
from gnomon_consumer.runtime.visible import visible_event
from gnomon_consumer.settings import LogSettings


class _RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Removes secrets from every line, also from the lines of libraries."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def configure(settings: LogSettings) -> None:
    """Set up structlog and the standard library's logging (librdkafka's lines arrive there)."""
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    chosen = settings.format
    if chosen == "auto":
        chosen = "console" if sys.stderr.isatty() else "logfmt"
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any
    escaping: list[Any] = [] if chosen == "json" else [visible_event]  # JSON escapes by itself
    if chosen == "json":
        shared.append(structlog.processors.dict_tracebacks)
        renderer = structlog.processors.JSONRenderer()
    elif chosen == "logfmt":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)
    else:
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _RedactingFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *escaping, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))
    # It writes a line for each request, with the whole URL.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # Their details do not interest users: a migration logs one line of its own, a cache may be temporary.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)


def get_logger(component: str, **bound: Any) -> structlog.stdlib.BoundLogger:
    """Return a logger whose lines name their part of Gnomon."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(component=component, **bound)
    return logger
