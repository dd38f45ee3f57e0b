"""The SDK for programs without an event loop, with a real agent."""

import gc
import inspect
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, assert_type

import pytest

from guyline.client import (
    Agent,
    AgentUnreachable,
    AsyncAgent,
    AsyncProcess,
    Chunk,
    CommandFailed,
    Completed,
    Exit,
    GuylineError,
    InputMode,
    InvalidInput,
    Line,
    Listing,
    Process,
    ProcessNotFound,
    StillRunning,
    Synced,
    WatchEvent,
)
from tests.support.agent import RunningAgent
from tests.support.clock import DEADLINE


@pytest.fixture
def agent(shared_agent: RunningAgent) -> Iterator[Agent]:
    """A client of an agent that other tests use as well."""
    with Agent(shared_agent.address, patience=DEADLINE) as agent:
        yield agent


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "guyline"]


def test_a_command_is_run_without_any_loop(agent: Agent) -> None:
    """Most programs have none."""
    completed = agent.run("echo out; exit 3")

    assert (completed.output, completed.exit.code) == (b"out\n", 3)
    with pytest.raises(CommandFailed):
        agent.run("exit 3", check=True)


def test_output_is_given_in_the_thread_that_asked(agent: Agent) -> None:
    """It may print, take its time, and use the agent; what it raises is raised where it was called."""
    seen: list[tuple[bytes, threading.Thread, int]] = []

    def note(chunk: Chunk) -> None:
        seen.append((chunk.data, threading.current_thread(), len(agent.list().processes)))

    agent.run("echo one", on_output=note)

    [(data, thread, listed)] = seen
    assert (data, thread) == (b"one\n", threading.current_thread())
    assert listed
    with pytest.raises(ZeroDivisionError):
        agent.run("echo one", on_output=lambda _: 1 // 0)


def test_a_process_is_followed_and_waited_for(agent: Agent) -> None:
    """Everything that the async handle can, by the same names."""
    with agent.open("echo one; echo two; exit 4") as process:
        assert b"".join(chunk.data for chunk in process.output()) == b"one\ntwo\n"
        assert process.wait().code == 4
        assert [line.text for line in process.lines()] == ["one", "two"]
    assert agent.attach(process.id).info.exit == process.info.exit


def test_a_coroutine_function_is_no_callback_here(agent: Agent) -> None:
    """Nobody would await what it gives, and the output would be gone without a word."""

    async def note(chunk: Chunk) -> None:
        raise AssertionError(chunk)

    with pytest.raises(TypeError, match="AsyncAgent"):
        agent.run("echo out", on_output=note)  # type: ignore[arg-type] # mypy knows as well


def test_a_write_is_not_torn_by_other_threads(agent: Agent) -> None:
    """The pieces of an iterable belong together."""
    process = agent.start(["cat"], stdin=InputMode.PIPE)
    letters, pieces, writes = b"abc", 5, 10

    def write(letter: int) -> None:
        for _ in range(writes):
            process.write([bytes([letter]) for _ in range(pieces)])

    with ThreadPoolExecutor(len(letters)) as pool:
        list(pool.map(write, letters))
    process.close_input()
    output = b"".join(chunk.data for chunk in process.output())

    written = [output[at : at + pieces] for at in range(0, len(output), pieces)]
    assert sorted(written) == sorted(bytes([letter]) * pieces for letter in letters for _ in range(writes))


def test_a_process_can_be_signalled(agent: Agent) -> None:
    """From any thread, while another one waits."""
    process = agent.start(["sleep", "60"])
    with pytest.raises(StillRunning):
        process.wait(timeout=0.01)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(process.wait)
        process.signal(signal.SIGKILL, wait=DEADLINE)

        assert waiting.result(DEADLINE).signal == signal.SIGKILL


def test_many_threads_share_an_agent(agent: Agent) -> None:
    """Their calls run side by side, and each gets its own result."""
    with ThreadPoolExecutor(8) as pool:
        completed = list(pool.map(lambda number: agent.run(f"echo {number}; exit {number}"), range(32)))

    assert [each.exit.code for each in completed] == list(range(32))
    assert [int(each.output) for each in completed] == list(range(32))


def test_a_stream_can_be_left_early(agent: Agent) -> None:
    """Closed or forgotten: nobody follows the process any more, and the agent still answers."""
    process = agent.open("while :; do echo x; sleep 0.01; done")
    with closing(process.output()) as chunks:
        next(chunks)
    next(process.output(from_offset=0))
    gc.collect()

    assert process.signal(signal.SIGKILL, wait=DEADLINE).survivors == ()
    assert process.wait().signal == signal.SIGKILL


def test_a_watch_is_a_plain_loop(agent: Agent) -> None:
    """For a program that only shows what happens."""
    for event in agent.watch():
        if isinstance(event, Synced):
            break


def test_closing_ends_what_other_threads_wait_for(shared_agent: RunningAgent) -> None:
    """Nobody hangs, and nobody takes the end for the process's. Closing twice is fine."""
    agent = Agent(shared_agent.address)
    process = agent.start(["sleep", "60"])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, process.output())
        while not process._twin._streams._pacing._readers:
            assert not waiting.done()
        agent.close()
        with pytest.raises(GuylineError, match="closed by this program"):
            waiting.result(DEADLINE)
    agent.close()

    assert not _threads()
    with pytest.raises(GuylineError, match="closed by this program"):
        process.wait()
    with Agent(shared_agent.address) as other:
        other.attach(process.id).signal(signal.SIGKILL, wait=DEADLINE)


def test_an_agent_that_is_forgotten_leaves_no_thread(shared_agent: RunningAgent) -> None:
    """It lives for as long as a process of it does."""
    agent = Agent(shared_agent.address)
    process = agent.open(["true"])
    del agent
    gc.collect()
    assert process.wait().code == 0

    del process
    gc.collect()

    assert not _threads()


def test_an_option_that_nobody_knows_is_refused_here_too(agent: Agent) -> None:
    """As in the twins."""
    given: dict[str, Any] = {"cwd": "/"}

    for method in (agent.run, agent.open, agent.start):
        with pytest.raises(TypeError, match="unexpected keyword argument 'cwd'"):
            method("true", **given)

    process = agent.start("true")
    for read in (process.output, process.lines):
        with pytest.raises(TypeError, match=rf"{read.__name__}\(\) got an unexpected keyword argument 'cwd'"):
            next(read(**given))


def test_what_cannot_be_written_is_refused_here_too(agent: Agent) -> None:
    """As in the twin, not with an error of a line inside."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"piece"

    wrong: tuple[Any, ...] = (None, pieces())
    with agent.open(["cat"], stdin=InputMode.PIPE) as process:
        for given in wrong:
            with pytest.raises(InvalidInput, match=r"^data: is .*, where bytes"):
                process.write(given)
        process.cancel()


def test_nobody_there_is_said_and_can_be_asked_again(shared_agent: RunningAgent, tmp_path: Path) -> None:
    """No thread is left of an attempt that failed."""
    with pytest.raises(InvalidInput):
        Agent("nonsense")
    with pytest.raises(AgentUnreachable), Agent(f"unix:{tmp_path}/none", connect_timeout=0):
        pass
    assert not _threads()

    link = tmp_path / "run"
    agent = Agent(f"unix:{link}/agent.sock", connect_timeout=0)
    with pytest.raises(AgentUnreachable):
        agent.list()
    link.symlink_to(Path(shared_agent.address.removeprefix("unix:")).parent)
    agent.list()
    agent.close()


def test_its_own_thread_must_not_wait_for_itself(shared_agent: RunningAgent) -> None:
    """An error is better than a program that stands still."""
    caught: list[RuntimeError] = []
    agent: Agent

    def back_or_away(is_away: bool) -> None:
        del is_away
        try:
            agent.list()
        except RuntimeError as error:
            caught.append(error)

    with Agent(shared_agent.address, on_absence=back_or_away) as agent:
        agent._thread.call(_call(back_or_away))

    assert "wait for itself" in str(caught[0])


async def _call(function: Callable[[bool], None]) -> None:
    function(True)


def _program(agent: RunningAgent, text: str) -> subprocess.Popen[str]:
    # Whoever runs these tests in the background has Ctrl-C ignored, and passes that on.
    ctrl_c = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    lines = f"{ctrl_c}from guyline.client import Agent\nagent = Agent({agent.address!r})\n{text}"
    return subprocess.Popen([sys.executable, "-c", lines], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_an_interpreter_that_exits_does_not_hang(shared_agent: RunningAgent) -> None:
    """Whoever forgets to close, in the middle of a stream, gets no message either."""
    child = _program(shared_agent, "chunks = agent.open('echo out; sleep 3').output()\nprint(next(chunks).data)")

    out, err = child.communicate(timeout=DEADLINE)

    assert (out, err, child.returncode) == ("b'out\\n'\n", "", 0)


def test_who_still_calls_when_the_interpreter_exits_gets_an_error(shared_agent: RunningAgent) -> None:
    """The one that is documented, in a late exit handler and in a thread that nobody waits for."""
    child = _program(
        shared_agent,
        "import atexit, threading\nfrom guyline.client import GuylineError\n"
        "def run():\n"
        "    try: agent.run('true')\n"
        "    except GuylineError as error: print(error)\n"
        "def read():\n"
        "    try:\n        for _ in agent.open('yes').output(): reading.set()\n"
        "    except GuylineError: pass\n"
        "reading = threading.Event()\n"
        "atexit.register(run)  # before the first call: it comes after the agent's own\n"
        "threading.Thread(target=read, daemon=True).start(); reading.wait()",
    )

    out, err = child.communicate(timeout=DEADLINE)

    assert (out, err, child.returncode) == ("the agent was closed by this program\n", "", 0)


def test_control_c_cancels_the_call(shared_agent: RunningAgent) -> None:
    """As of any blocking call; the agent can be used on."""
    child = _program(
        shared_agent,
        "process = agent.open('echo ready; exec sleep 60')\n"
        "try:\n    print(next(process.output()).data, flush=True)\n    process.wait()\n"
        "except KeyboardInterrupt:\n    process.signal(9, wait=10); print(process.wait().signal)\n"
        "agent.close()",
    )
    assert child.stdout is not None
    assert "ready" in child.stdout.readline()

    child.send_signal(signal.SIGINT)

    out, err = child.communicate(timeout=DEADLINE)
    assert (out, err, child.returncode) == ("9\n", "", 0)


def test_a_child_of_a_fork_is_told_to_make_its_own(shared_agent: RunningAgent) -> None:
    """The thread is not in the child, so nothing would ever answer."""
    child = _program(
        shared_agent,
        "import os, warnings; warnings.simplefilter('ignore')\n"
        "agent.list()\n"
        "if not os.fork():\n"
        "    try:\n        agent.list()\n"
        "    except RuntimeError as error:\n        print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait(); agent.list(); agent.close()",
    )

    out, _ = child.communicate(timeout=DEADLINE)

    assert (out, child.returncode) == (
        "this agent was made before a fork, in the parent process: close it there before, make another one here\n",
        0,
    )


def test_after_a_fork_a_new_agent_works_if_none_was_open(shared_agent: RunningAgent) -> None:
    """gRPC stands still for ever in the child of a process that used it: there it is an error, at once."""
    child = _program(
        shared_agent,
        "import os, warnings; warnings.simplefilter('ignore')\n"
        "def fork():\n"
        "    if not os.fork():\n"
        "        try:\n"
        "            with Agent(str(agent._twin._connection.address)) as own: print(own.run('echo ran').text, end='')\n"
        "        except RuntimeError as error:\n            print(type(error).__name__, 'spawn' in str(error))\n"
        "        sys.stdout.flush(); os._exit(0)\n"
        "    os.wait()\n"
        "import sys\nagent.list(); fork(); agent.close(); fork()",
    )

    out, _ = child.communicate(timeout=DEADLINE)

    assert (out, child.returncode) == ("RuntimeError True\nran\n", 0)


def test_signatures_and_types_are_the_async_ones(agent: Agent) -> None:
    """Editors and type checkers see what the async class says, with what it gives in place of an awaitable."""
    completed = assert_type(agent.run(["true"]), Completed)
    listing = assert_type(agent.list(max_ended=1, labels={}), Listing)
    process = assert_type(agent.open(["true"], timeout=5), Process)
    events = assert_type(agent.watch(), Generator[WatchEvent, None, None])
    chunks = assert_type(process.output(times=True), Generator[Chunk, None, None])
    lines = assert_type(process.lines(), Generator[Line, None, None])
    ended = assert_type(process.wait(), Exit)

    assert completed.exit.succeeded
    assert listing.processes
    assert ended.code == 0
    assert [*chunks, *lines] == []
    events.close()
    assert inspect.signature(agent.list) == inspect.signature(AsyncAgent.list.__get__(object()))
    assert Agent.list.__doc__ == AsyncAgent.list.__doc__


@pytest.mark.parametrize(("sync", "twin"), [(Agent, AsyncAgent), (Process, AsyncProcess)])
def test_nothing_is_left_out(sync: type, twin: type) -> None:
    """What the async class learns, the other one learns as well."""
    names = {name for name in vars(twin) if not name.startswith("_")} - {"aclose"}

    assert names <= {name for name in dir(sync) if not name.startswith("_")}
    if sync is Agent:
        assert inspect.signature(sync).parameters == inspect.signature(twin).parameters
    for name in names:
        written_anew = vars(sync).get(name)
        if inspect.isfunction(written_anew):
            assert list(inspect.signature(written_anew).parameters) == list(
                inspect.signature(getattr(twin, name)).parameters
            ), name


def test_errors_are_the_same(agent: Agent) -> None:
    """A program that moves from one to the other catches the same classes."""
    with pytest.raises(ProcessNotFound):
        agent.attach("00000000-0000-4000-8000-0000000000ff")
