"""What can be wrong with a request about a process."""

import errno
import os
from collections.abc import Mapping

from guyline.errors import (
    Conflict,
    Exhausted,
    InvalidInput,
    NotFound,
    OutOfRange,
    RightMissing,
    TimedOut,
    Unavailable,
    Violation,
    WrongState,
)


class ProcessNotFound(NotFound):
    """No such process, or one that does not exist for this caller."""

    reason = "PROCESS_NOT_FOUND"
    resource_type = "guyline.agent.v1.Process"

    def __init__(self, process_id: str) -> None:
        super().__init__(
            f"no process {process_id!r}; List shows those you may see", resource_name=process_id, process_id=process_id
        )


class ProcessNotRunning(WrongState):
    """It has ended, and nobody of it is left who could get a signal."""

    reason = "PROCESS_NOT_RUNNING"

    def __init__(self, process_id: str) -> None:
        super().__init__(f"process {process_id!r} has ended, and no descendant is left", process_id=process_id)


class SignalNotPermitted(RightMissing):
    """The command, or whoever of it is left, has become another user, whom the agent may not signal."""

    reason = "SIGNAL_NOT_PERMITTED"

    def __init__(self, process_id: str, number: int) -> None:
        super().__init__(
            f"the agent may not send signal {number} to process {process_id!r}: it runs as another user",
            process_id=process_id,
            signal=str(number),
        )


class CommandNotRunnable(WrongState):
    """The program cannot be executed."""

    reason = "COMMAND_NOT_RUNNABLE"

    def __init__(self, program: str, number: int) -> None:
        super().__init__(
            f"cannot execute {program!r}: {os.strerror(number)}",
            program=program,
            errno=errno.errorcode.get(number, "?"),
        )


class PrivilegeMissing(WrongState):
    """The agent may not set this up for a process."""

    reason = "PRIVILEGE_MISSING"

    def __init__(self, setting: str, number: int) -> None:
        super().__init__(
            f"the agent lacks the privilege for {setting}: {os.strerror(number)}",
            setting=setting,
            errno=errno.errorcode.get(number, "?"),
        )


class FeatureOff(WrongState):
    """The agent cannot do here what is asked for."""

    reason = "FEATURE_OFF"

    def __init__(self, feature: str, why: str) -> None:
        super().__init__(f"this agent lacks {feature}: {why}", feature=feature)


class UserUnknown(InvalidInput):
    """There is no such user, or no such group."""

    def __init__(self, kind: str, name: str, *, path: str = "") -> None:
        super().__init__(Violation(f"{path}privileges.{kind}", f"there is no {kind} {name!r}"))
        self._kind = kind
        self._name = name

    def below(self, path: str) -> "UserUnknown":
        """The same of a start that lies at ``path`` in a larger request."""
        return UserUnknown(self._kind, self._name, path=path)


class UserLookupTimedOut(TimedOut):
    """User and group could not be looked up in time, as if the name service is not to be reached."""

    reason = "LOOKUP_TIMED_OUT"

    def __init__(self, user: str, group: str, seconds: float) -> None:
        super().__init__(
            f"looking up user {user!r} and group {group!r} took more than {seconds:g} s; is the name service down?",
            user=user,
            group=group,
        )


class DirectoryNotUsable(InvalidInput):
    """The working directory is missing, is no directory, or may not be entered."""

    reason = "DIRECTORY_NOT_USABLE"

    def __init__(self, directory: str, number: int, *, field: str = "directory") -> None:
        super().__init__(
            Violation(field, f"cannot start in {directory!r}: {os.strerror(number)}"),
            directory=directory,
            errno=errno.errorcode.get(number, "?"),
        )
        self._directory = directory
        self._number = number

    def below(self, path: str) -> "DirectoryNotUsable":
        """The same of a start that lies at ``path`` in a larger request."""
        return DirectoryNotUsable(self._directory, self._number, field=f"{path}directory")


class SecretsNotUsable(InvalidInput):
    """Variables that ``redact`` names are not set, or too short to be told from other output."""

    def __init__(self, problems: Mapping[int, str], *, path: str = "") -> None:
        super().__init__(*(Violation(f"{path}redact[{index}]", text) for index, text in problems.items()))
        self._problems = problems

    def below(self, path: str) -> "SecretsNotUsable":
        """The same of a start that lies at ``path`` in a larger request."""
        return SecretsNotUsable(self._problems, path=path)


class SecretsLost(WrongState):
    """Nobody knows any more what must not be shown of a process's output."""

    reason = "SECRETS_LOST"

    def __init__(self, process_id: str) -> None:
        super().__init__(
            f"the values that must not be shown of process {process_id!r} cannot be read any more, so nothing of its "
            "output is; Attach gives it as it is",
            process_id=process_id,
        )


class LookupTimedOut(TimedOut):
    """Program and directory could not be looked up in time, as on a dead network mount."""

    reason = "LOOKUP_TIMED_OUT"

    def __init__(self, program: str, directory: str, seconds: float) -> None:
        super().__init__(
            f"looking up {program!r} and {directory!r} took more than {seconds:g} s; is a network mount dead?",
            program=program,
            directory=directory,
        )


class KeyConflict(Conflict):
    """The key was used for another start."""

    reason = "KEY_CONFLICT"

    def __init__(self, key: str) -> None:
        super().__init__(f"key {key!r} was used for another start; make a new key for each start", key=key)


class KeyExpired(WrongState):
    """The key's age is such that nobody could say whether it was used."""

    reason = "KEY_EXPIRED"

    def __init__(self, key: str, age: float, retention: float) -> None:
        super().__init__(
            f"key {key!r} is {age:.0f} s old by the agent's clock, and keys are known for {retention:.0f} s; "
            "check with List whether it was started, then start it with a new key",
            key=key,
            age_seconds=f"{age:.0f}",
        )


class NoInput(WrongState):
    """It was started without anything to write to."""

    reason = "NO_INPUT"

    def __init__(self, process_id: str) -> None:
        super().__init__(
            f"process {process_id!r} reads from the null device; start it with an input, or a terminal",
            process_id=process_id,
        )


class InputClosed(WrongState):
    """Nothing more is accepted."""

    reason = "INPUT_CLOSED"

    def __init__(self, next_offset: int) -> None:
        super().__init__(
            f"the input is closed behind {next_offset} bytes: by `eof`, by the process, or by its end",
            next_offset=str(next_offset),
        )


class InputFull(Exhausted):
    """The process does not read, and as much waits for it as may."""

    reason = "INPUT_FULL"
    retry_after = 0.1

    def __init__(self, next_offset: int) -> None:
        super().__init__(
            f"the process does not read, and no more input can wait for it; go on at {next_offset} once it does",
            next_offset=str(next_offset),
        )


class InputTooLong(InvalidInput):
    """More than can ever wait, and not to be divided."""

    reason = "INVALID_INPUT"

    def __init__(self, length: int, bound: int) -> None:
        super().__init__(
            Violation("data", f"{length} bytes are more than can wait ({bound}); say their `offset`, or divide them")
        )


class InputOffsetOutOfRange(OutOfRange):
    """Bytes in between are missing."""

    reason = "OFFSET_OUT_OF_RANGE"

    def __init__(self, offset: int, next_offset: int) -> None:
        super().__init__(
            f"offset {offset} leaves a hole: {next_offset} bytes were accepted so far; go on there",
            offset=str(offset),
            next_offset=str(next_offset),
        )


class InputConflict(Conflict):
    """Somebody else has written there. ``offset`` is None if nobody can say where any more."""

    reason = "INPUT_CONFLICT"

    def __init__(self, offset: int | None, next_offset: int) -> None:
        where = "before that," if offset is None else f"at offset {offset}"
        super().__init__(
            f"{where} other bytes were accepted, of another writer; {next_offset} is where to go on",
            **({} if offset is None else {"offset": str(offset)}),
            next_offset=str(next_offset),
        )


class TerminalHasNoEnd(WrongState):
    """A terminal's input does not end; a program that reads it is told so by a character."""

    reason = "NO_INPUT"

    def __init__(self, process_id: str) -> None:
        super().__init__(
            f"process {process_id!r} reads a terminal, which has no end; write its end-of-file character, mostly the "
            "byte 4 (Ctrl-D)",
            process_id=process_id,
        )


class NoTerminal(WrongState):
    """It was started without a terminal, or nobody has that open any more."""

    reason = "NO_TERMINAL"

    def __init__(self, process_id: str) -> None:
        super().__init__(f"process {process_id!r} has no terminal (any more)", process_id=process_id)


class StartCanceled(WrongState):
    """The key's start was canceled before it came."""

    reason = "START_CANCELED"

    def __init__(self, key: str) -> None:
        super().__init__(f"what key {key!r} stands for was canceled before it was started; it will never run", key=key)


class ProcessRunning(WrongState):
    """It cannot be forgotten while it runs, or while something that it left behind prints."""

    reason = "PROCESS_RUNNING"

    def __init__(self, process_id: str, *, has_ended: bool) -> None:
        what = "has ended, but a descendant holds its output open" if has_ended else "runs"
        super().__init__(f"process {process_id!r} {what}; Cancel ends it", process_id=process_id)


class TooManyProcesses(Exhausted):
    """As many processes as the settings allow run, or have left something behind that can print."""

    reason = "TOO_MANY_PROCESSES"
    retry_after = 1.0

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} processes run or hold their output open, and the limit is {limit} (--max-processes)",
            limit=str(limit),
            setting="max_processes",
        )


class TooManyChatProcesses(Exhausted):
    """As many processes as the settings allow to one chat run, or have left something behind that can print."""

    reason = "TOO_MANY_PROCESSES"
    retry_after = 1.0

    def __init__(self, limit: int, chat_id: str) -> None:
        super().__init__(
            f"{limit} processes of chat {chat_id} run or hold their output open, and the limit is {limit} "
            "(--max-chat-processes)",
            limit=str(limit),
            setting="max_chat_processes",
            chat_id=chat_id,
        )


class TooManyFollowers(Exhausted):
    """As many streams of output as the settings allow are open."""

    reason = "TOO_MANY_FOLLOWERS"
    retry_after = 1.0

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} streams of output are open, and the limit is {limit} (--max-followers); end some",
            limit=str(limit),
            setting="max_followers",
        )


class JournalQuota(Exhausted):
    """More output is to be kept of one process than the agent keeps in all."""

    reason = "JOURNAL_QUOTA"

    def __init__(self, field: str, asked: int, limit: int) -> None:
        super().__init__(
            f"{field}: {asked} bytes are more than the agent keeps of all processes together, {limit} "
            "(--journal-quota-bytes); ask for less",
            field=field,
            limit=str(limit),
            setting="journal_quota_bytes",
        )


class SystemExhausted(Exhausted):
    """The system has no room: descriptors, memory, processes."""

    reason = "SYSTEM_EXHAUSTED"
    retry_after = 1.0

    def __init__(self, number: int, what: str = "another process", *, halfway: bool = False) -> None:
        super().__init__(
            f"the system has no room for {what}: {os.strerror(number)}",
            errno=errno.errorcode.get(number, "?"),
        )
        self.may_have_run = halfway


class KeeperLost(Unavailable):
    """The keeper died while it was asked: it may have happened."""

    reason = "KEEPER_LOST"
    may_have_run = True

    def __init__(self) -> None:
        super().__init__("the agent's keeper died while it was asked; List shows what runs")
