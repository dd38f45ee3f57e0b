"""The keeper's log: the worker's format, without the worker's libraries."""

import json
from datetime import UTC, datetime
from typing import Literal

from guyline.daemon.log_sink import LogSink

Level = Literal["info", "warning", "error"]


class KeeperLog:
    """Writes lines to standard error, and never waits for who reads them."""

    def __init__(self, *, is_json: bool, is_quiet: bool) -> None:
        self._is_json = is_json
        self._is_quiet = is_quiet  # without what is no warning
        self._sink = LogSink(2)

    def info(self, event: str, **fields: object) -> None:
        if not self._is_quiet:
            self._write(event, "info", fields)

    def warning(self, event: str, **fields: object) -> None:
        self._write(event, "warning", fields)

    def error(self, event: str, **fields: object) -> None:
        self._write(event, "error", fields)

    def _write(self, event: str, level: Level, fields: dict[str, object]) -> None:
        timestamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        if self._is_json:
            line = {"source": "keeper", **fields, "event": event, "level": level, "timestamp": timestamp}
            self._sink.msg(json.dumps(line, separators=(",", ":")))
        else:
            told = "".join(f" {name}={value}" for name, value in fields.items())
            self._sink.msg(f"{timestamp} [{level:7}] {event:30}{told} source=keeper")
