"""Logs: what a line holds, what it never holds, and that nobody has to read them."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from guyline.daemon.log_sink import LogSink
from guyline.daemon.logging import LogFormat, bind_to_call, configure_logging, get_logger


class Pipe:
    """Where a log goes, and what came out."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.sinks: list[LogSink] = []

    def text(self) -> str:
        try:
            return os.read(self.reading, 1 << 20).decode()
        except BlockingIOError:
            return ""

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield pipe
    root.handlers[:], root.level = before
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    for sink in pipe.sinks:
        sink.close()
    os.close(pipe.reading)
    os.close(pipe.writing)


def configure(pipe: Pipe, log_format: LogFormat = "json") -> None:
    pipe.sinks.append(configure_logging(log_format=log_format, level="info", descriptor=pipe.writing))


def test_a_line_is_json_with_event_level_time_source_and_fields(pipe: Pipe) -> None:
    """A log shipper needs no grammar."""
    configure(pipe)

    get_logger("guyline.x").info("thing happened", count=3)

    [line] = pipe.lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "thing happened", "level": "info", "source": "guyline.x", "count": 3}


def test_for_people_it_is_a_readable_line(pipe: Pipe) -> None:
    """``auto`` on a pipe is JSON, ``console`` is not."""
    configure(pipe, "console")

    get_logger("guyline.x").info("thing happened", count=3)

    text = pipe.text()
    assert "thing happened" in text
    assert "count=3" in text
    assert not text.startswith("{")


@pytest.mark.parametrize("key", ["env", "token", "authorization", "contents", "data", "session_token"])
def test_fields_that_may_hold_secrets_are_redacted(pipe: Pipe, key: str) -> None:
    """One careless line must not undo all care."""
    configure(pipe)

    get_logger("x").info("oops", **{key: "hunter2"})

    text = pipe.text()
    assert "hunter2" not in text
    assert "[redacted]" in text


async def test_what_is_bound_to_a_call_stands_in_its_lines_and_in_no_others(pipe: Pipe) -> None:
    """Calls run side by side."""
    configure(pipe)
    log = get_logger("x")

    async def call(name: str) -> None:
        bind_to_call(request_id=name)
        await asyncio.sleep(0)
        log.info("done", me=name)

    await asyncio.gather(call("a"), call("b"))
    log.info("outside")

    lines = pipe.lines()
    assert sorted(line["request_id"] for line in lines[:2]) == ["a", "b"]
    assert all(line["request_id"] == line["me"] for line in lines[:2])
    assert "request_id" not in lines[2]


def test_libraries_log_into_the_same_place_in_the_same_form(pipe: Pipe) -> None:
    """asyncio's and gRPC's complaints are worth reading, too."""
    configure(pipe)

    logging.getLogger("some.library").warning("careful with %s", "that")
    logging.getLogger("some.library").debug("never mind")

    [line] = pipe.lines()
    assert (line["event"], line["source"], line["level"]) == ("careful with that", "some.library", "warning")


def test_a_traceback_is_a_field(pipe: Pipe) -> None:
    """One event stays one line."""
    configure(pipe)

    get_logger("x").error("broke", exc_info=ValueError("why"))

    [line] = pipe.lines()
    assert line["exception"].splitlines()[-1] == "ValueError: why"


def test_a_log_that_nobody_reads_costs_lines_and_never_blocks(pipe: Pipe) -> None:
    """A stuck log shipper must not stop the agent; and once it reads again it learns what it missed."""
    os.set_blocking(pipe.writing, True)
    sink = LogSink(pipe.writing)
    pipe.sinks.append(sink)
    while not sink.dropped_lines:
        sink.msg("x" * 1000)
    sink.msg("lost")

    pipe.text()
    sink.msg("seen")

    text = pipe.text()
    assert "seen" in text
    assert "lost" not in text
    assert '"lines":2}' in text


def test_a_log_whose_reader_has_gone_does_no_harm() -> None:
    """The terminal may be closed under a daemon."""
    reading, writing = os.pipe()
    os.close(reading)
    sink = LogSink(writing)

    sink.msg("hello")

    sink.close()
    os.close(writing)
    assert sink.dropped_lines == 1


def test_a_terminal_that_nobody_reads_costs_lines_and_never_blocks() -> None:
    """Ctrl-S where the log is shown must not stop the agent: a terminal polls as writable, and blocks all the same."""
    reading, writing = os.openpty()
    sink = LogSink(writing)

    lines = 0
    while not sink.dropped_lines:
        sink.msg("x" * 1000)
        lines += 1

    sink.close()
    os.close(writing)
    os.close(reading)
    assert lines > 1


def test_a_long_line_arrives_whole(pipe: Pipe) -> None:
    """Tracebacks are longer than what a pipe takes at once."""
    sink = LogSink(pipe.writing)
    pipe.sinks.append(sink)

    sink.msg("x" * 50_000)

    assert pipe.text() == "x" * 50_000 + "\n"


def test_logging_is_imported_without_what_only_its_colours_need() -> None:
    """rich takes 0.1 s of every start, and is asked for by nobody here; what hid it does not hide it for ever."""
    program = "import guyline.daemon.logging, sys; print('rich' in sys.modules); import rich; print(rich.__name__)"

    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert done.stdout.split() == ["False", "rich"]
