"""What keeper and worker say to each other arrives whole, in order and with its descriptors, or is refused."""

import array
import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guyline.agentd.keeper import messages as m
from tests.support import proc

TEXT = st.text(max_size=30)
NUMBER = st.integers(-(2**63), 2**63)
MESSAGES = st.one_of(
    st.builds(
        m.Start,
        process_id=TEXT,
        info=TEXT,
        program=TEXT,
        argv=st.lists(TEXT, max_size=3),
        env=st.dictionaries(TEXT, TEXT, max_size=3),
        child=st.lists(NUMBER, max_size=3),
        kept=st.lists(TEXT, max_size=3),
        setup=st.dictionaries(TEXT, NUMBER | TEXT | st.lists(NUMBER, max_size=3), max_size=3),
    ),
    st.builds(m.Fence, TEXT, TEXT),
    st.builds(m.Note, TEXT, TEXT),
    st.builds(m.Signal, NUMBER, TEXT, NUMBER, TEXT, st.booleans()),
    st.builds(m.Release, st.lists(TEXT, max_size=3)),
    st.builds(m.Forget, TEXT),
    st.builds(m.Upgrade, TEXT),
    st.builds(m.Welcome, NUMBER, TEXT, NUMBER, TEXT, TEXT, TEXT, st.dictionaries(TEXT, TEXT, max_size=3)),
    st.builds(m.Descriptors, TEXT, st.lists(TEXT, max_size=3)),
    st.builds(m.Started, TEXT, NUMBER, NUMBER, st.floats(allow_nan=False)),
    st.builds(m.Exited, TEXT, st.lists(st.none() | st.booleans() | NUMBER | TEXT, max_size=5)),
    st.builds(m.ShutDown, st.floats(allow_nan=False)),
    st.sampled_from([m.Ready(), m.HandedOver(), m.Stop()]),
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3),
)


class Ends:
    """A keeper's end, wrapped, and the worker's as a bare socket, on which anything can be said."""

    def __init__(self) -> None:
        ours, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.connection = m.Connection(ours)

    def say(self, data: bytes, descriptors: list[int]) -> None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self.peer.sendmsg([data], ancillary)


@contextmanager
def ends() -> Iterator[Ends]:
    """Both, and the assertion that no descriptor is left afterwards."""
    before = sorted(proc.descriptors(os.getpid()))
    pair = Ends()
    try:
        yield pair
    finally:
        pair.connection.close()
        pair.peer.close()
    assert sorted(proc.descriptors(os.getpid())) == before


def receive_all(connection: m.Connection) -> Iterator[m.Message]:
    while (received := connection.receive()) is not None:
        message, descriptors = received
        m.close_all(descriptors)
        yield message


@contextmanager
def a_pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


@settings(deadline=None)
@given(MESSAGES)
def test_every_message_is_read_as_it_was_written(message: m.Message) -> None:
    """The two ends may be of different releases: what is written must be what is read, to the type."""
    again = m.decode(m.encode(message))

    assert again == message
    assert type(again) is type(message)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_refused_and_nothing_worse(data: bytes) -> None:
    """One exception that nobody expects would end the keeper."""
    with pytest.raises(m.MalformedMessage):
        m.decode(data)


@settings(deadline=None)
@given(ANY_JSON | st.tuples(st.sampled_from(["Start", "Signal", "Ready", "Exited"]), ANY_JSON))
def test_json_that_is_no_message_is_refused_and_nothing_worse(value: object) -> None:
    """Nearly right is the more dangerous kind of wrong."""
    if value == ["Ready"]:
        return
    with pytest.raises(m.MalformedMessage):
        m.decode(json.dumps(value).encode())


@pytest.mark.parametrize(
    "fields",
    [
        ["Forget"],
        ["Forget", 5],
        ["Release", "a"],
        ["Release", [1]],
        ["Forget", "a", "b"],
        ["Signal", True, "a", 9, "caller", False],
        ["Signal", 1.5, "a", 9, "caller", False],
        ["Signal", 1, "a", 9, "caller", 0],
        ["Start", "a", "", "/bin/sh", ["sh", 1], {}, [], []],
        ["Start", "a", "", "/bin/sh", ["sh"], {"A": 1}, [], []],
        ["Start", "a", "", "/bin/sh", ["sh"], {}, ["1"], []],
        ["__class__"],
        ["Message", "a"],
    ],
)
def test_fields_of_another_type_or_number_are_refused(fields: list[object]) -> None:
    """What passes is used without another look."""
    with pytest.raises(m.MalformedMessage):
        m.decode(json.dumps(fields).encode())


def test_a_large_message_travels_in_a_memory_file() -> None:
    """An environment may have a megabyte; a packet of the kernel's default size has 208 KiB."""
    big = m.Note("a", "x" * 3_000_000)
    with ends() as pair, a_pipe() as (reader, _):
        other = m.Connection(pair.peer.dup())
        other.send(big, [reader])
        received = pair.connection.receive()
        other.close()

        assert received is not None
        message, descriptors = received
        assert message == big
        assert len(descriptors) == 1
        m.close_all(descriptors)


@pytest.mark.parametrize("size", [m.MAX_MESSAGE_BYTES - 1, m.MAX_MESSAGE_BYTES, m.MAX_MESSAGE_BYTES + 1])
def test_messages_around_the_bound_arrive(size: int) -> None:
    """Where one way of travelling ends and the other begins is where a byte would be lost."""
    frame = len(m.encode(m.Forget("")))
    message = m.Forget("x" * (size - frame))
    with ends() as pair:
        other = m.Connection(pair.peer.dup())
        other.send(message)
        assert len(m.encode(message)) == size
        assert pair.connection.receive() == (message, [])
        other.close()


def test_descriptors_arrive_as_copies_that_children_do_not_inherit() -> None:
    """The sender closes its own at once, and a command must never find one that is not meant for it."""
    with ends() as pair, a_pipe() as (reader, writer):
        pair.say(m.encode(m.Forget("a")), [reader])
        received = pair.connection.receive()
        assert received is not None
        (copy,) = received[1]
        os.write(writer, b"through")

        assert os.read(copy, 10) == b"through"
        assert not os.get_inheritable(copy)
        os.close(copy)


def test_as_many_descriptors_as_the_kernel_takes_arrive_in_order() -> None:
    """253 is the kernel's own limit; a control buffer too small drops the rest without a word."""
    with ends() as pair, a_pipe() as (reader, writer):
        pair.say(m.encode(m.Forget("a")), [reader, writer] * 126 + [reader])
        received = pair.connection.receive()
        assert received is not None
        kinds = [os.fstat(each).st_ino for each in received[1]]
        modes = [os.get_blocking(each) for each in received[1]]
        m.close_all(received[1])

        assert len(kinds) == m.MAX_DESCRIPTORS
        assert all(modes)


@pytest.mark.parametrize(
    "data", [b"garbage", b'["Forget",5]', b"\0"[:1] + b"x", b'["Forget","' + b"x" * m.MAX_MESSAGE_BYTES + b'"]']
)
def test_the_descriptors_of_a_malformed_message_do_not_leak(data: bytes) -> None:
    """A peer that goes mad must not use up the keeper's table; the last case is a message that was cut off."""
    with ends() as pair, a_pipe() as (reader, writer):
        pair.say(data, [reader, writer])
        with pytest.raises(m.MalformedMessage):
            pair.connection.receive()


def test_a_memory_file_that_is_none_is_refused() -> None:
    """No file at all, an empty one, or a pipe, which cannot be read at an offset."""
    with ends() as pair, a_pipe() as (reader, _):
        empty = os.memfd_create("empty")
        for descriptors in ([], [empty], [reader]):
            pair.say(b"\0", descriptors)
            with pytest.raises(m.MalformedMessage):
                pair.connection.receive()
        os.close(empty)


def test_after_a_malformed_message_the_next_one_is_read() -> None:
    """Packets keep their bounds, so one bad message costs itself only."""
    with ends() as pair:
        pair.say(b"garbage", [])
        pair.say(m.encode(m.Ready()), [])
        with pytest.raises(m.MalformedMessage):
            pair.connection.receive()

        assert pair.connection.receive() == (m.Ready(), [])


def test_what_the_peer_does_not_read_waits_in_order_and_with_its_descriptors() -> None:
    """The keeper answers to nobody's pace but its own: a worker that is busy must not stop it."""
    with ends() as pair, a_pipe() as (reader, _):
        sent: list[m.Message] = []
        queued = 0
        while queued < 100:
            sent.append(m.Forget(str(len(sent))))
            pair.connection.send(sent[-1], [reader] if queued else [])
            queued += pair.connection.has_queued

        other = m.Connection(pair.peer.dup())
        received: list[m.Message] = []
        while len(received) < len(sent):
            _take_what_is_there(other, received)
            pair.connection.flush()
        other.close()

        assert received == sent
        assert not pair.connection.has_queued


def _take_what_is_there(connection: m.Connection, into: list[m.Message]) -> None:
    try:
        into.extend(receive_all(connection))
    except BlockingIOError:
        return


def test_what_can_neither_be_sent_nor_queued_leaves_no_descriptor_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where descriptors are scarce each one that is lost makes it worse."""
    with ends() as pair, a_pipe() as (reader, writer):
        while not pair.connection.has_queued:
            pair.connection.send(m.Note("a", "x" * 100_000))
        before = len(proc.descriptors(os.getpid()))
        dup, made = os.dup, iter([reader])

        def dup_once(descriptor: int) -> int:
            if next(made, None) is None:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return dup(descriptor)

        monkeypatch.setattr(os, "dup", dup_once)
        with pytest.raises(OSError, match="Too many open files"):
            pair.connection.send(m.Forget("a"), [reader, writer])

        assert len(proc.descriptors(os.getpid())) == before


def test_what_was_queued_is_given_up_with_the_connection() -> None:
    """The worker died: its successor gets everything anew, and the copies of descriptors must not stay."""
    with ends() as pair, a_pipe() as (reader, _):
        while not pair.connection.has_queued:
            pair.connection.send(m.Forget("a"))
        pair.connection.send(m.Forget("a"), [reader])
        held = len(proc.descriptors(os.getpid()))
        pair.connection.close()

        assert len(proc.descriptors(os.getpid())) == held - 2  # the copy, and the connection itself


def test_what_a_dead_peer_had_sent_is_read_before_the_end() -> None:
    """That makes the worker's death harmless: what it had asked for is done."""
    with ends() as pair:
        pair.say(m.encode(m.Forget("last wish")), [])
        pair.peer.close()

        assert list(receive_all(pair.connection)) == [m.Forget("last wish")]


def test_a_peer_that_died_with_our_messages_unread_ends_like_any_other() -> None:
    """The kernel says ECONNRESET once, before what is still to be read; it is no news."""
    with ends() as pair:
        pair.connection.send(m.Ready())
        pair.say(m.encode(m.Forget("last wish")), [])
        pair.peer.close()

        assert list(receive_all(pair.connection)) == [m.Forget("last wish")]


def test_nothing_to_read_is_no_end() -> None:
    """An empty socket and a closed one must not be confused."""
    with ends() as pair, pytest.raises(BlockingIOError):
        pair.connection.receive()


def test_sending_to_a_dead_peer_is_a_connection_error() -> None:
    """The one error that senders expect."""
    with ends() as pair:
        pair.peer.close()
        with pytest.raises(ConnectionError) as why:
            pair.connection.send(m.Ready())

    assert why.value.errno == errno.EPIPE
