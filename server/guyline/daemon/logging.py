"""Logs: one line an event on standard error, JSON or for people, with what is bound to the current call.

Domains take their logger from ``get_logger`` here, not from structlog itself, since how that is imported matters.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias

from guyline.daemon.log_sink import LogSink


@contextmanager
def _without_rich() -> Iterator[None]:
    """Hides rich from an import. structlog imports it where it is installed, which takes 0.1 s of every start."""
    if "rich" in sys.modules or find_spec("rich") is None:
        yield
        return
    hidden: dict[str, Any] = sys.modules  # an entry of None makes `import rich` fail
    hidden["rich"] = None
    try:
        yield
    finally:
        del hidden["rich"]


with _without_rich():
    import structlog
    from structlog.contextvars import bind_contextvars, merge_contextvars
    from structlog.typing import FilteringBoundLogger, Processor

Logger: TypeAlias = FilteringBoundLogger
LogFormat: TypeAlias = Literal["auto", "json", "console"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

# Field names whose values never reach a log, whoever logs them.
_SECRET_FIELDS = frozenset(
    {
        "authorization", "contents", "cookie", "credential", "credentials", "data", "env", "environ", "environment",
        "metadata", "password", "private_key", "secret", "secrets", "token", "tokens",
    }
)  # fmt: skip
_SECRET_ENDINGS = ("_env", "_password", "_secret", "_token")
_REDACTED = "[redacted]"

# Libraries that report what is theirs to handle, as seen from a daemon's log.
_QUIET_LIBRARIES = {"asyncio": logging.WARNING, "grpc": logging.WARNING, "opentelemetry": logging.WARNING}


def get_logger(name: str) -> Logger:
    """A logger whose lines carry ``source=name``. It may be made before ``configure_logging`` is called."""
    logger: Logger = structlog.get_logger(source=name)
    return logger


def bind_to_call(**fields: str) -> None:
    """Adds fields to every further line of the current call (task), such as ``process_id``."""
    bind_contextvars(**fields)


def configure_logging(*, log_format: LogFormat, level: LogLevel, descriptor: int = 2) -> LogSink:
    """Sends all logs, those of libraries too, to ``descriptor``, and returns their sink. Called once, by ``main``.

    Args:
        log_format: ``auto`` is for people on a terminal, else JSON.
        level: The least severe level that is written.
        descriptor: Stays the caller's to close.
    """
    sink = LogSink(descriptor)
    severity = logging.getLevelNamesMapping()[level.upper()]
    for_people = log_format == "console" or (log_format == "auto" and os.isatty(descriptor))
    shared: list[Processor] = [
        merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact_secrets,
    ]
    render = _console_renderer(colors=os.isatty(descriptor)) if for_people else _render_json
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(severity),
        logger_factory=lambda *_: sink,
    )
    _route_libraries(sink, shared, render, severity)
    return sink


def redact_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replaces the values of fields that may hold secrets."""
    for key in event:
        if key in _SECRET_FIELDS or key.endswith(_SECRET_ENDINGS):
            event[key] = _REDACTED
    return event


_encode = json.JSONEncoder(default=repr, separators=(",", ":")).encode


def _render_json(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    return _encode(event)


def _console_renderer(*, colors: bool) -> Processor:
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)


def _route_libraries(sink: LogSink, shared: list[Processor], render: Processor, severity: int) -> None:
    """Gives the standard library's loggers the same lines on the same descriptor."""
    handler = _SinkHandler(sink)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_add_source, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(severity)
    for name, floor in _QUIET_LIBRARIES.items():
        logging.getLogger(name).setLevel(max(floor, severity))


def _add_source(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["source"] = event["_record"].name
    return event


class _SinkHandler(logging.Handler):
    """Hands formatted records to the sink, which never blocks and never raises."""

    def __init__(self, sink: LogSink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        self._sink.msg(self.format(record))
