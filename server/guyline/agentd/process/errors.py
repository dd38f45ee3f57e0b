"""What can be wrong with a request about a process."""

import errno
import os

from guyline.errors import (
    Conflict,
    Exhausted,
    InvalidInput,
    NotFound,
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


class TooManyProcesses(Exhausted):
    """As many processes as the settings allow are alive."""

    reason = "TOO_MANY_PROCESSES"
    retry_after = 1.0

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} processes are running, and the limit is {limit} (--max-processes)", limit=str(limit))


class SystemExhausted(Exhausted):
    """The system has no room: descriptors, memory, processes."""

    reason = "SYSTEM_EXHAUSTED"
    retry_after = 1.0

    def __init__(self, number: int) -> None:
        super().__init__(
            f"the system has no room for another process: {os.strerror(number)}",
            errno=errno.errorcode.get(number, "?"),
        )


class KeeperLost(Unavailable):
    """The keeper died while it was asked: it may have happened."""

    reason = "KEEPER_LOST"
    may_have_run = True

    def __init__(self) -> None:
        super().__init__("the agent's keeper died while it was asked; List shows what runs")
