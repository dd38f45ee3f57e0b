"""The helper programs do what their names say: other tests trust them blindly."""

import hashlib
import os
import signal
import subprocess

import pytest

from tests.support import proc
from tests.support.program import program
from tests.support.programs import noise


@pytest.mark.parametrize("chunk", [1_000, 65_536, 100_001])
def test_noise_is_the_same_however_it_is_cut(chunk: int) -> None:
    """A digest tells a lost byte from a different cut only if the cut does not matter."""
    printed = subprocess.run(program("noise", 5, 200_000, "--chunk", chunk), capture_output=True, check=True).stdout

    assert len(printed) == 200_000
    assert hashlib.sha256(printed).hexdigest() == noise.digest(5, 200_000)


def test_noise_divides_between_stdout_and_stderr() -> None:
    """Separate streams need both, in a known order."""
    ran = subprocess.run(
        program("noise", 5, 40_000, "--chunk", 10_000, "--stderr-every", 2, "--exit", 3),
        capture_output=True,
        check=False,
    )

    first, second, third, fourth = noise.pieces(5, 40_000, 10_000)
    assert (ran.stdout, ran.stderr, ran.returncode) == (first + third, second + fourth, 3)


def test_the_daemon_outlives_its_parent_and_holds_the_pipe() -> None:
    """Descendants that hold the pipe are the classical way to hang a runner of commands."""
    with subprocess.Popen(program("daemon", "--say", "bye"), stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert parent.wait() == 0
        assert proc.is_alive(pid)
        os.kill(pid, signal.SIGUSR1)

        assert parent.stdout.read() == b"bye"
    proc.wait_until_dead(pid)


def test_the_stubborn_one_needs_sigkill() -> None:
    """Ladders of signals are tested with it."""
    with subprocess.Popen(program("stubborn"), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == f"ready {child.pid}\n".encode()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            child.send_signal(number)
        assert proc.is_alive(child.pid)
        child.kill()

        assert child.wait() == -signal.SIGKILL
