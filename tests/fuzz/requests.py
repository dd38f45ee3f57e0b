"""Requests to ProcessService: any bytes are refused, with an error that fits into a reply, or make a valid value."""

from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from guyline.agent.v1.process_service_pb2 import (
    AttachRequest,
    ProcessServiceWatchRequest,
    RunRequest,
    SignalRequest,
    StartRequest,
)
from guyline.agentd.process.errors import JournalQuota
from guyline.agentd.process.service import convert
from guyline.errors import InvalidInput
from guyline.rpc.cursor import Cursor
from guyline.rpc.errors import to_status

_MOST_METADATA_BYTES = 8_192
_MIB = 1 << 20

Request = TypeVar("Request", bound=Message)


def one_input(data: bytes) -> None:
    """Takes a kind of request (the first byte), and its bytes as they come over the wire."""
    read = _READERS[data[0] % len(_READERS)] if data else _start
    try:
        read(data[1:])
    except DecodeError:
        pass
    except (InvalidInput, JournalQuota) as error:
        status = to_status(error)
        assert len(status.SerializeToString()) * 4 / 3 + len(status.message.encode()) < _MOST_METADATA_BYTES


def _start(data: bytes) -> None:
    request = _parsed(StartRequest(), data)
    spec = convert.to_spec(request, path="", pause=False, kept_bytes=_MIB, most_kept_bytes=64 * _MIB)
    assert spec.arguments
    assert spec.arguments[0]
    assert not any("\0" in text for text in (*spec.arguments, spec.directory, *spec.env, *spec.env.values()))
    assert all(name and "=" not in name for name in spec.env)
    assert _MIB <= spec.kept_bytes <= 64 * _MIB
    assert spec.key is None or 1 <= len(spec.key.value.encode()) <= 200
    assert spec.fingerprint("salt") == spec.fingerprint("salt")


def _run(data: bytes) -> None:
    request = _parsed(RunRequest(), data)
    assert 0.1 <= convert.to_keepalive(request) <= 600
    convert.to_spec(request.start, path="start.", pause=True, kept_bytes=_MIB, most_kept_bytes=64 * _MIB)


def _attach(data: bytes) -> None:
    request = _parsed(AttachRequest(), data)
    assert 0.1 <= convert.to_keepalive(request) <= 600
    assert Cursor.from_bytes(request.cursor).to_bytes() == request.cursor


def _watch(data: bytes) -> None:
    request = _parsed(ProcessServiceWatchRequest(), data)
    assert 0.1 <= convert.to_keepalive(request) <= 600
    assert Cursor.from_bytes(request.cursor).to_bytes() == request.cursor


def _signal(data: bytes) -> None:
    request = _parsed(SignalRequest(), data)
    assert 1 <= convert.to_signal(request) <= 64
    for seconds in convert.to_grace_and_wait(request):
        assert seconds is None or 0 <= seconds <= 600


_READERS: list[Callable[[bytes], None]] = [_start, _run, _attach, _watch, _signal]


def _parsed(request: Request, data: bytes) -> Request:
    request.ParseFromString(data)
    return request
