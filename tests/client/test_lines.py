"""Output as lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guyline.client.enums import OutputStream
from guyline.client.lines import LineSplitter
from guyline.client.values import Chunk, Gap, Line

_OUT, _ERR = OutputStream.STDOUT, OutputStream.STDERR


def _lines(*chunks: Chunk, most: int = 64) -> list[Line]:
    splitter = LineSplitter(max_line_bytes=most)
    return [line for chunk in chunks for line in splitter.feed(chunk)] + list(splitter.rest())


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_lines_do_not_depend_on_how_output_comes(data: bytes, cuts: list[int]) -> None:
    """Where a message ends is chance."""
    starts = sorted({0, *(cut for cut in cuts if cut < len(data))})
    stops = [*starts[1:], len(data)]
    chunks = [Chunk(start, data[start:stop], _OUT) for start, stop in zip(starts, stops, strict=True)]

    assert _lines(*chunks) == _lines(Chunk(0, data, _OUT))


@given(st.text(alphabet="aü€😀\n", max_size=100), st.integers(4, 20))
def test_nothing_is_lost_by_cutting_long_lines(text: str, most: int) -> None:
    """And no character is cut in two."""
    lines = _lines(Chunk(0, text.encode(), _OUT), most=most)

    assert all(len(line.text.encode()) <= most for line in lines)
    assert "".join(line.text for line in lines) == text.replace("\n", "")


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_carriage_return_is_lost_only_before_the_end_of_a_line(cut: int) -> None:
    """A progress bar has many, and a long one is cut where one stands."""
    data = b"abc\rdef\r\n"
    lines = _lines(Chunk(0, data[:cut], _OUT), Chunk(cut, data[cut:], _OUT), most=4)

    assert [line.text for line in lines] == ["abc\r", "def"]


@pytest.mark.parametrize("cut", range(1, 8))
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_is_as_long_without_its_end_as_it_may_be(end: str, cut: int) -> None:
    """Its end is not a line of its own."""
    data = f"abcd{end}x{end}".encode()
    lines = _lines(Chunk(0, data[:cut], _OUT), Chunk(cut, data[cut:], _OUT), most=4)

    assert [(line.text, line.offset) for line in lines] == [("abcd", 0), ("x", 4 + len(end))]


def test_each_stream_has_lines_of_its_own() -> None:
    """Two programs that print by turns would otherwise spoil each other's lines. Offsets are those of the output."""
    lines = _lines(Chunk(0, b"on", _OUT), Chunk(2, b"err\n", _ERR), Chunk(6, b"e\ntwo\n", _OUT))

    assert [(line.text, line.offset, line.stream) for line in lines] == [
        ("err", 2, _ERR),
        ("one", 0, _OUT),
        ("two", 8, _OUT),
    ]


@given(st.text(alphabet="aü€😀\r\n", max_size=20), st.sets(st.integers(0, 40)))
def test_each_piece_of_a_line_begins_where_its_first_byte_was_printed(text: str, interrupted: set[int]) -> None:
    """Also if the other stream prints in the middle of a character."""
    data = text.encode()
    chunks: list[Chunk] = []
    for index in range(len(data)):
        if index in interrupted:
            chunks.append(Chunk(len(chunks), b"!", _ERR))
        chunks.append(Chunk(len(chunks), data[index : index + 1], _OUT))
    printed = [chunk.offset for chunk in chunks if chunk.stream is _OUT]

    lines = [line for line in _lines(*chunks, most=4) if line.stream is _OUT]

    assert [line.offset for line in lines] == [printed[line.offset] for line in _lines(Chunk(0, data, _OUT), most=4)]


def test_lost_output_cuts_a_line_and_is_said() -> None:
    """What stands before and behind it must not look like one line."""
    gap = Gap(2, 10)
    lines = _lines(Chunk(0, b"on", _OUT), Chunk(10, b"wo\nthree\n", _OUT, gap))

    assert [(line.text, line.gap) for line in lines] == [("on", None), ("wo", gap), ("three", None)]


@pytest.mark.parametrize("behind", [b"", b"x\n"])
def test_a_loss_without_data_is_said_of_what_comes_next(behind: bytes) -> None:
    """If nothing comes, of an empty line."""
    gap = Gap(0, 10)
    lines = _lines(Chunk(10, b"", _OUT, gap), Chunk(10, behind, _OUT))

    assert [(line.text, line.gap) for line in lines] == [(behind.decode().strip(), gap)]


@pytest.mark.parametrize("stream", [_OUT, _ERR])
def test_a_loss_without_data_is_of_no_stream(stream: OutputStream) -> None:
    """Nobody knows who printed what is lost. It is said where it is, not by a line at the end that nobody printed."""
    gap = Gap(0, 10)
    lines = _lines(Chunk(10, b"", OutputStream.MERGED, gap), Chunk(10, b"one\n", stream), Chunk(14, b"two\n", stream))

    assert [(line.text, line.stream, line.gap) for line in lines] == [("one", stream, gap), ("two", stream, None)]


def test_losses_without_data_between_them_are_one() -> None:
    """No line stands between them of which the first could be said."""
    lost = [Chunk(stop, b"", OutputStream.MERGED, Gap(stop - 5, stop)) for stop in (5, 10)]

    assert [(line.text, line.gap) for line in _lines(*lost, Chunk(10, b"x\n", _OUT))] == [("x", Gap(0, 10))]
