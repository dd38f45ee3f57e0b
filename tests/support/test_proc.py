"""What tests ask the kernel is right also of processes that have hardly begun."""

import os

from tests.support import proc


def test_a_process_that_is_just_executing_has_its_environment() -> None:
    """For some microseconds the kernel shows none; what carries a mark must not slip through then."""
    missed = 0
    for _ in range(300):
        pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {"MARK": "1"})
        missed += b"MARK=1" not in proc.environment(pid)
        proc.kill([pid])
        os.waitpid(pid, 0)

    assert missed == 0


def test_a_process_without_an_environment_has_none() -> None:
    """Nobody waits for it to get one."""
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    found = proc.environment(pid)
    proc.kill([pid])
    os.waitpid(pid, 0)

    assert not any(found)
    assert proc.environment(pid) == []
