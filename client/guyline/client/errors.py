"""What can go wrong, as exceptions: a class per family, and the reason for programs that want to know more.

Everything that Guyline raises on purpose is a ``GuylineError``. Its text says what was wrong and what to do; its
attributes say the same to programs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Whether a call that failed may have had an effect."""

    UNSPECIFIED = "UNSPECIFIED"
    """Not said: assume that it may have run."""
    NOT_STARTED = "NOT_STARTED"
    """Nothing happened."""
    MAY_HAVE_RUN = "MAY_HAVE_RUN"
    """It may have happened, in part or whole."""


class Hop(StrEnum):
    """Where on the way a call failed."""

    UNSPECIFIED = "UNSPECIFIED"
    CLIENT = "CLIENT"
    CONTROL = "CONTROL"
    LINK = "LINK"
    AGENT = "AGENT"


@dataclass(frozen=True)
class Violation:
    """One thing wrong with a request: ``field`` is the path from the request's root, or ``metadata.KEY``."""

    field: str
    description: str


class GuylineError(Exception):
    """A call failed. The classes below say how to react; this one itself is raised for reasons newer than the client.

    Attributes:
        reason: A name of ``guyline.error.v1.Reason`` without ``REASON_``.
        facts: What the text says, for programs: ``process_id``, ``errno``, ...
        outcome: Whether the call may have had an effect.
        hop: Where it failed.
        violations: What was wrong with which field of the request.
        retry_after: Seconds after which another try makes sense; None if nobody said.
    """

    default_reason = "UNSPECIFIED"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        facts: Mapping[str, str] | None = None,
        outcome: Outcome = Outcome.UNSPECIFIED,
        hop: Hop = Hop.CLIENT,
        violations: tuple[Violation, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason or self.default_reason
        self.facts = dict(facts or {})
        self.outcome = outcome
        self.hop = hop
        self.violations = violations
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        """Errors come out of process pools, too: with all their attributes, whatever arguments their class takes."""
        return _bare, (type(self), self.args), self.__dict__


def _bare(kind: type[GuylineError], args: tuple[object, ...]) -> GuylineError:
    return kind.__new__(kind, *args)


class InvalidInput(GuylineError):
    """The request itself is wrong; ``violations`` says where."""

    default_reason = "INVALID_INPUT"


class DirectoryNotUsable(InvalidInput):
    """The directory to start in cannot be used. ``facts`` has ``errno``, by name."""

    default_reason = "DIRECTORY_NOT_USABLE"


class NotFound(GuylineError):
    """There is no such thing, or it is another chat's: the two cannot be told apart."""


class ProcessNotFound(NotFound):
    """There is no such process, or it is another chat's: the two cannot be told apart."""

    default_reason = "PROCESS_NOT_FOUND"


class Conflict(GuylineError):
    """What is there already does not agree with this."""


class KeyConflict(Conflict):
    """The key was used before for a start with other contents."""

    default_reason = "KEY_CONFLICT"


class WrongState(GuylineError):
    """The thing exists, but is not in a state in which this can be done: a process that has ended, say."""


class CommandNotRunnable(WrongState):
    """The program could not be executed. ``facts`` has ``errno`` (its name: ``ENOENT``) and ``program``."""

    default_reason = "COMMAND_NOT_RUNNABLE"


class ProcessNotRunning(WrongState):
    """The process has ended."""

    default_reason = "PROCESS_NOT_RUNNING"


class ProcessRunning(WrongState):
    """The process still runs."""

    default_reason = "PROCESS_RUNNING"


class KeyExpired(WrongState):
    """The key is older than the agent remembers keys, or from the future: nobody could say whether it was used."""

    default_reason = "KEY_EXPIRED"


class StartCanceled(WrongState):
    """The start was canceled before it came."""

    default_reason = "START_CANCELED"


class NoInput(WrongState):
    """The process was started without anything to write to: give ``stdin=InputMode.PIPE`` at the start."""

    default_reason = "NO_INPUT"


class InputClosed(WrongState):
    """The process's input is closed: by an end that was written, by the process, or by its exit."""

    default_reason = "INPUT_CLOSED"


class InputConflict(Conflict):
    """Others have written to the input as well. ``facts["next_offset"]`` says where it is now."""

    default_reason = "INPUT_CONFLICT"


class NoTerminal(WrongState):
    """The process has no terminal, or none any more."""

    default_reason = "NO_TERMINAL"


class FeatureOff(WrongState):
    """The agent cannot do this where it is. ``facts["feature"]`` names what it lacks, ``info()`` says why."""

    default_reason = "FEATURE_OFF"


class PrivilegeMissing(WrongState):
    """The agent lacks a privilege that the start needs. ``facts["setting"]`` says for what."""

    default_reason = "PRIVILEGE_MISSING"


class UpgradeRefused(WrongState):
    """The new code does not run, or cannot take over. The old one goes on."""

    default_reason = "UPGRADE_REFUSED"


class OutOfRange(GuylineError):
    """The offset is beyond what was printed, or written, so far."""

    default_reason = "OFFSET_OUT_OF_RANGE"


class Exhausted(GuylineError):
    """A limit of the agent or of its system is reached."""


class TooManyProcesses(Exhausted):
    """As many processes as the agent's settings allow are alive."""

    default_reason = "TOO_MANY_PROCESSES"


class TooManyFollowers(Exhausted):
    """As many streams of output as the agent's settings allow are open."""

    default_reason = "TOO_MANY_FOLLOWERS"


class TooManyCalls(Exhausted):
    """As many calls as the agent takes at once are open. The client has waited for as long as its ``patience`` says."""

    default_reason = "TOO_MANY_CALLS"


class SystemExhausted(Exhausted):
    """The agent's system refused a resource. ``facts`` has ``errno``. The client has waited, as above."""

    default_reason = "SYSTEM_EXHAUSTED"


class RequestTooLarge(Exhausted):
    """The request is larger than the agent takes. ``facts["max_request_bytes"]`` says how large it may be."""

    default_reason = "REQUEST_TOO_LARGE"


class JournalQuota(Exhausted):
    """More output is to be kept of one process than the agent keeps in all."""

    default_reason = "JOURNAL_QUOTA"


class InputFull(Exhausted):
    """The process does not read. ``write`` waits instead of raising this."""

    default_reason = "INPUT_FULL"


class TimedOut(GuylineError):
    """Something that the agent asked of its system did not answer: a dead network mount, say."""

    default_reason = "LOOKUP_TIMED_OUT"


class NotAuthenticated(GuylineError):
    """The agent wants a token, and none was given, or not one that holds."""

    default_reason = "NOT_AUTHENTICATED"


class RightMissing(GuylineError):
    """The caller is known but may not do this."""

    default_reason = "RIGHT_MISSING"


class SignalNotPermitted(RightMissing):
    """The process has become another user (as ``sudo`` does), whom the agent may not signal. It goes on."""

    default_reason = "SIGNAL_NOT_PERMITTED"


class Unsupported(GuylineError):
    """The agent at the address does not have this call."""

    default_reason = "METHOD_UNKNOWN"


class Defect(GuylineError):
    """A defect of Guyline. ``facts["incident"]``, where it is given, finds it in the agent's log."""

    default_reason = "DEFECT"


class Unavailable(GuylineError):
    """The agent cannot answer now. The client has already tried again for as long as its ``patience`` says."""

    default_reason = "SHUTTING_DOWN"


class AgentUnreachable(Unavailable):
    """Nobody answered at the address."""

    default_reason = "AGENT_UNREACHABLE"


class StoreChanged(GuylineError):
    """The agent at the address is of another store than the one asked before, so what that one knew is gone."""

    default_reason = "STORE_CHANGED"


class SocketNotTrusted(GuylineError):
    """Somebody else could be listening on the socket, so it was not dialled."""

    default_reason = "SOCKET_NOT_TRUSTED"


FAMILIES: Mapping[str, type[GuylineError]] = {
    "INVALID_ARGUMENT": InvalidInput,
    "NOT_FOUND": NotFound,
    "ALREADY_EXISTS": Conflict,
    "FAILED_PRECONDITION": WrongState,
    "OUT_OF_RANGE": OutOfRange,
    "RESOURCE_EXHAUSTED": Exhausted,
    "DEADLINE_EXCEEDED": TimedOut,
    "UNAUTHENTICATED": NotAuthenticated,
    "PERMISSION_DENIED": RightMissing,
    "UNIMPLEMENTED": Unsupported,
    "INTERNAL": Defect,
    "UNAVAILABLE": Unavailable,
}
"""Which family a status code means."""

PASSING = (Unavailable, TooManyCalls, SystemExhausted)
"""What is over after a while, so that it is worth another try where that does no harm."""

REASONS: Mapping[str, type[GuylineError]] = {
    kind.default_reason: kind
    for kind in (
        CommandNotRunnable,
        DirectoryNotUsable,
        FeatureOff,
        InputClosed,
        InputConflict,
        InputFull,
        JournalQuota,
        KeyConflict,
        KeyExpired,
        NoInput,
        NoTerminal,
        PrivilegeMissing,
        ProcessNotFound,
        ProcessNotRunning,
        ProcessRunning,
        RequestTooLarge,
        SignalNotPermitted,
        StartCanceled,
        StoreChanged,
        SystemExhausted,
        TooManyCalls,
        TooManyFollowers,
        TooManyProcesses,
        UpgradeRefused,
    )
}
"""Reasons with a class of their own below the family of their code: what a program would react to."""
