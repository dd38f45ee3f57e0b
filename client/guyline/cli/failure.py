"""Failures as people and programs get them: a line that says what was wrong, a line that says what to do."""

import errno
import json

from guyline.cli.say import complain
from guyline.client.errors import CommandNotRunnable, GuylineError

_NOT_FOUND = 127
_NOT_RUNNABLE = 126
_OWN_FAILURE = 125

_WHAT_TO_DO = {
    "AGENT_UNREACHABLE": "`guyline up` starts an agent; --address or GUYLINE_AGENT_ADDRESS says where another one is",
    # The same of an agent that is elsewhere:
    "AGENT_UNREACHABLE tcp": "--address says where it is, --ca-file who vouches for it; `guyline agent` must run there",
    "SOCKET_NOT_TRUSTED": "use a directory of your own with mode 0700, for example with `guyline agent --listen`",
    "PROCESS_NOT_FOUND": "`guyline ps` lists those that you may see",
    "NOT_AUTHENTICATED": "--token-file names the file that holds the token",
    "PROCESS_RUNNING": "`guyline kill` ends it",
    "FEATURE_OFF": "`guyline info` says why",
    "TOO_MANY_PROCESSES": "`guyline ps` shows who runs, `guyline kill` makes room",
    "STORE_CHANGED": "`guyline ps` shows what the agent at this address knows",
}


def report(error: GuylineError, *, as_json: bool) -> int:
    """Prints the failure on standard error; returns the exit code for it."""
    way = error.facts.get("address", "").partition(":")[0]
    advice = _WHAT_TO_DO.get(f"{error.reason} {way}") or _WHAT_TO_DO.get(error.reason)
    if as_json:
        complain(in_json(error))
    else:
        complain(f"guyline: {error}" + (f"\n  {advice}" if advice else ""))
    return exit_code(error)


def in_json(error: GuylineError) -> str:
    """The failure for programs, on one line."""
    said = {"reason": error.reason, "message": str(error), "facts": error.facts, "outcome": error.outcome.value}
    return json.dumps({"error": said | {"hop": error.hop.value}})


def to_error(why: OSError) -> GuylineError:
    """What this machine refuses, as an error like all others."""
    name = errno.errorcode.get(why.errno or 0, "")
    return GuylineError(why.strerror or str(why), facts={"errno": name} if name else {})


def exit_code(error: GuylineError) -> int:
    """What a shell's exit code would be: 127 and 126 are about the command, 125 is about Guyline."""
    if not isinstance(error, CommandNotRunnable):
        return _OWN_FAILURE
    return _NOT_FOUND if error.facts.get("errno") == "ENOENT" else _NOT_RUNNABLE
