"""A pattern, and the search for its first match in a stream whose pieces come one after the other."""

import re
from dataclasses import dataclass

import re2

LONGEST_MATCH = 64 * 1024
"""Bytes. A longer match may be missed: so much is kept of what was searched in vain, in case it goes on."""

_MAX_MEMORY = 512 * 1024
"""Bytes for one compiled pattern. RE2 refuses a pattern that needs more, and compiles the worst that fits in 10 ms."""
_LINES = "(?m)"
"""`^` and `$` are the ends of lines. RE2 has an option for it that takes away most of its syntax."""
_BEGINNING = re.compile(r"\\A|\(\?\w*-")
r"""`\A`, or a flag taken away: without `m`, `^` is the same."""

_END_OF_LINE = b"\n"
"""What a search takes for what is lost before a text."""


class PatternRefused(Exception):
    """This is no pattern in RE2's syntax, or one that is too large. Says why, in RE2's words."""


class Pattern:
    """A regular expression in RE2's syntax, for bytes.

    Text in it is UTF-8, and so is what a dot or a class matches: one character. Other bytes are matched by ``\\C``.

    Searching takes time in proportion to the text, times `steps` at worst.

    Raises:
        PatternRefused: It is none.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._regexp = _compile(text)
        self.steps: int = self._regexp.programsize
        self.may_name_the_beginning = bool(_BEGINNING.search(text))
        """Whether it could hold at the beginning of the text alone, and so must be searched for from there."""

    def __repr__(self) -> str:
        return f"<Pattern {self.text!r}>"

    def find(self, text: bytes, start: int, stop: int) -> tuple[int, int] | None:
        """Where the first match between two offsets begins and ends. May be called in any thread: the GIL is free.

        What is before and after them counts for ``^``, ``$`` and ``\\b``.
        """
        match = self._regexp.search(text, start, stop)
        return (match.start(), match.end()) if match else None


def _compile(text: str) -> "re2._Regexp":
    options = re2.Options()
    options.max_mem = _MAX_MEMORY
    options.log_errors = False  # or they go to stderr
    options.never_capture = True  # groups are not asked for, and cost a second way through the text
    try:
        return re2.compile((_LINES + text).encode(), options)
    except re2.error as why:
        message = why.args[0]
        message = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
        raise PatternRefused(message.replace(_LINES, "", 1)) from why
    finally:
        re2.purge()  # else it keeps the last 128, whoever asked for them


@dataclass(frozen=True)
class Found:
    """A match."""

    offset: int
    """Where it begins in the stream."""

    data: bytes
    """All of it."""

    @property
    def end(self) -> int:
        """The offset behind it."""
        return self.offset + len(self.data)


@dataclass(frozen=True)
class Window:
    """A stretch of the stream that is ready to be searched, in any thread."""

    pattern: Pattern
    text: bytes
    start: int  # before it, nothing begins; it is there for `^` and `\b`
    stop: int

    @property
    def most_steps(self) -> int:
        """How much work it can be at worst."""
        return (self.stop - self.start) * self.pattern.steps

    def find(self) -> tuple[int, int] | None:
        return self.pattern.find(self.text, self.start, self.stop)


class Search:
    """Finds the first match from an offset on, wherever the pieces are cut.

    ``add`` some, take the ``window``, search it, and ``conclude``. Of what is added first, ``before`` bytes come before
    the offset: nothing begins there, they are there for `^` and `\\b`. One is enough.

    What is found is what one search in all of the stream would find, as far as it was there when ``conclude`` was told
    that this ``is_all``. Until then a match is only told once whatever could come first, or be longer, is there too.

    Holds the last ``longest`` bytes of what was searched, and what was added since. A window that is abandoned, because
    its search was cancelled, changes nothing.
    """

    def __init__(self, pattern: Pattern, offset: int, *, before: int = 0, longest: int = LONGEST_MATCH) -> None:
        self._pattern = pattern
        self._longest = longest
        self._begin(offset, before)

    @property
    def unsearched(self) -> int:
        """How many bytes were added since the last search."""
        return self._added

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing before the next piece in which a match could begin."""
        return sum(map(len, self._pieces)) <= self._start

    def skip_to(self, offset: int) -> None:
        """Begins anew: what comes next has nothing to do with what came before, and begins a line. Not the output."""
        self._begin(offset, len(_END_OF_LINE), _END_OF_LINE)

    def _begin(self, offset: int, before: int, *known: bytes) -> None:
        self.resume_at = offset
        """From here on another search finds what this one would: where a line begins, if one has ended since, so that
        ``^`` means the same even if what is before it is lost by then."""
        self._pieces = list(known)
        self._offset = offset - before  # of the first piece
        self._start = before  # in the first piece: a match may begin there
        self._added = 0

    def add(self, data: bytes) -> None:
        if data:
            self._pieces.append(data)
            self._added += len(data)

    def window(self, *, is_all: bool) -> Window:
        """What is to be searched now. ``is_all``: there is nothing more at the moment, so that ``$`` is here."""
        text = b"".join(self._pieces)
        self._pieces = [text] if text else []
        # Unless this is all, the last byte is only looked at: whether a line ends before it, or a word.
        stop = len(text) if is_all else max(self._start, len(text) - 1)
        return Window(self._pattern, text, self._start, stop)

    def conclude(self, window: Window, span: tuple[int, int] | None, *, is_all: bool) -> Found | None:
        """Takes what ``find`` found in the last window; if it was nothing, forgets what can begin no match any more."""
        if span and (is_all or span[0] + self._longest <= window.stop):
            return Found(self._offset + span[0], window.text[slice(*span)])
        start = max(self._start, window.stop - self._longest)
        if (line := window.text.rfind(b"\n", 0, start) + 1) and not self._pattern.may_name_the_beginning:
            self.resume_at = self._offset + line
        cut = max(0, start - 1)
        self._pieces = [window.text[cut:]] if window.text[cut:] else []
        self._offset += cut
        self._start = start - cut
        self._added = 0
        return None
