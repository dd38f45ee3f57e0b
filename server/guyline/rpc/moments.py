"""Moments and durations: floats of seconds in here, messages on the wire."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

_NANOS = 1_000_000_000


def to_timestamp(moment: float) -> Timestamp:
    """From seconds since the epoch."""
    seconds, nanos = divmod(round(moment * _NANOS), _NANOS)
    return Timestamp(seconds=seconds, nanos=nanos)


def to_moment(timestamp: Timestamp) -> float:
    """To seconds since the epoch."""
    return timestamp.seconds + timestamp.nanos / _NANOS


def to_duration(seconds: float) -> Duration:
    """From seconds, which are not negative."""
    whole, nanos = divmod(round(seconds * _NANOS), _NANOS)
    return Duration(seconds=whole, nanos=nanos)


def to_seconds(duration: Duration) -> float:
    """To seconds."""
    return duration.seconds + duration.nanos / _NANOS
