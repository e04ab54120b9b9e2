"""Logging: structlog to standard error, one event with keys and values a line."""

import logging
import sys
from typing import Any

import structlog

from gnomon_consumer.settings import LogSettings


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
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))


def get_logger(component: str, **bound: Any) -> structlog.stdlib.BoundLogger:
    """A logger whose every line says which part of Gnomon speaks."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(component=component, **bound)
    return logger
