"""As whom, and with how much of the machine, a process runs."""

import os
import pwd
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import pytest

from guyline.agent.v1.process_pb2 import (
    RESOURCE_ADDRESS_SPACE,
    RESOURCE_CORE,
    RESOURCE_CPU,
    RESOURCE_DATA,
    RESOURCE_FILE_SIZE,
    RESOURCE_LOCKED_MEMORY,
    RESOURCE_OPEN_FILES,
    RESOURCE_PROCESSES,
    RESOURCE_STACK,
    Privileges,
    Resource,
    ResourceLimit,
)
from guyline.agent.v1.process_service_pb2 import RunRequest
from guyline.agentd.launch import with_priorities
from guyline.agentd.process.faults import STEPS
from guyline.agentd.settings import AgentSettings
from tests.agentd.keeper.lives import listed, logged
from tests.agentd.process.process_parts import Followed, new_key, refusal, run, started, to_start
from tests.support import agent_without_privileges, faulty_agent, proc
from tests.support.agent import AgentProcess, RunningAgent

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
WHO = 'id -u; id -g; id -G; echo "$HOME $USER $LOGNAME $SHELL"'
NOBODY = pwd.getpwnam("nobody")
DAEMON = pwd.getpwnam("daemon")
STRANGER = 54321
"""A number that no user has."""


def lines(over: Followed) -> list[str]:
    """What a command printed, which must have succeeded."""
    assert over.exit.code == 0, over.data
    return over.data.decode().splitlines()


@pytest.fixture
async def plain_agent() -> AsyncIterator[RunningAgent]:
    """An agent without privileges, as of any user but root."""
    if why := agent_without_privileges.why_impossible():
        pytest.skip(why)
    process = AgentProcess(program=(agent_without_privileges.__file__,))
    async with RunningAgent(process=process, owns_process=True) as running:
        yield running


# Users and groups.


@ROOT
@pytest.mark.parametrize("user", ["daemon", str(DAEMON.pw_uid)])
async def test_a_user_by_name_or_number_brings_groups_and_home(shared_agent: RunningAgent, user: str) -> None:
    """As after a login: whatever looks at the environment or the groups finds the same user."""
    over = await run(shared_agent, WHO, directory="/", privileges=Privileges(user=user))
    groups = sorted(os.getgrouplist("daemon", DAEMON.pw_gid))

    uid, gid, found, rest = lines(over)
    assert (int(uid), int(gid), sorted(map(int, found.split()))) == (DAEMON.pw_uid, DAEMON.pw_gid, groups)
    assert rest == f"{DAEMON.pw_dir} daemon daemon {DAEMON.pw_shell}"
    assert over.process.user == user


@ROOT
async def test_what_the_start_says_of_home_counts(shared_agent: RunningAgent) -> None:
    """The variables that follow the user are a default."""
    env = {"HOME": "/elsewhere", "SHELL": "/bin/fish"}
    over = await run(shared_agent, WHO, directory="/", env=env, privileges=Privileges(user="nobody"))

    assert lines(over)[3] == "/elsewhere nobody nobody /bin/fish"


@ROOT
async def test_a_number_that_no_user_has_is_a_user_without_groups(shared_agent: RunningAgent) -> None:
    """Images of containers are full of them."""
    over = await run(shared_agent, WHO, directory="/", privileges=Privileges(user=str(STRANGER)))

    assert lines(over) == [*[str(STRANGER)] * 3, f"/ {STRANGER} {STRANGER} /bin/sh"]


@ROOT
@pytest.mark.parametrize("group", ["daemon", str(DAEMON.pw_gid)])
async def test_a_group_takes_the_place_of_the_users_own(shared_agent: RunningAgent, group: str) -> None:
    """With a user or without."""
    both = await run(shared_agent, WHO, directory="/", privileges=Privileges(user="nobody", group=group))
    alone = await run(shared_agent, "id -u; id -g", directory="/", privileges=Privileges(group=group))

    assert lines(both)[:2] == [str(NOBODY.pw_uid), str(DAEMON.pw_gid)]
    assert str(NOBODY.pw_gid) not in lines(both)[2].split()
    assert lines(alone) == [str(os.geteuid()), str(DAEMON.pw_gid)]


@pytest.mark.parametrize("field", ["user", "group"])
@pytest.mark.parametrize("name", ["no such one", "-1", "4294967295", "٣"])
async def test_who_is_not_there_is_named(shared_agent: RunningAgent, field: str, name: str) -> None:
    """By the path of the field, as everything that is wrong with a request."""
    start = to_start("true", privileges=Privileges(**{field: name}))  # type: ignore[arg-type]  # either is a text
    by_start = await refusal(shared_agent.processes.Start(start))
    by_run = await refusal(shared_agent.processes.Run(RunRequest(start=start)))

    assert (by_start.code, by_start.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [f"privileges.{field}"])
    assert by_run.fields == [f"start.privileges.{field}"]


async def test_without_root_the_agents_own_user_can_be_named(plain_agent: RunningAgent) -> None:
    """A client need not know whether it names the one that it would get anyway."""
    own = pwd.getpwuid(os.geteuid())
    over = await run(plain_agent, WHO, directory="/", privileges=Privileges(user=own.pw_name))

    uid, gid, _, rest = lines(over)
    assert (int(uid), int(gid)) == (os.geteuid(), os.getegid())
    assert rest == f"{own.pw_dir} {own.pw_name} {own.pw_name} {own.pw_shell}"


# What it lacks the privilege for.


NOT_ALLOWED = {
    "privileges.user": Privileges(user="daemon"),
    "privileges.group": Privileges(group="daemon"),
    "privileges.nice": Privileges(nice=-20),
    "privileges.oom_score": Privileges(oom_score=-1000),
    "privileges.resource_limits": Privileges(
        resource_limits=[ResourceLimit(resource=RESOURCE_OPEN_FILES, soft=1, hard=1 << 40)]
    ),
}


@pytest.mark.parametrize("setting", NOT_ALLOWED)
async def test_what_the_agent_may_not_set_up_is_named(plain_agent: RunningAgent, setting: str) -> None:
    """It is not the program's fault, and the next start has nothing to do with it."""
    request = to_start("true", privileges=NOT_ALLOWED[setting])
    refused = await refusal(plain_agent.processes.Start(request))

    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PRIVILEGE_MISSING")
    assert refused.facts["setting"] == setting
    assert refused.facts["errno"] in {"EPERM", "EACCES"}
    assert lines(await run(plain_agent, "echo fine")) == ["fine"]


async def test_a_missing_privilege_is_remembered_for_the_key(plain_agent: RunningAgent) -> None:
    """A repeat hears the same, also from the next worker."""
    request = to_start("true", key=new_key(), privileges=NOT_ALLOWED["privileges.nice"])
    first = await refusal(plain_agent.processes.Start(request))
    second = await refusal(plain_agent.processes.Start(request))
    await plain_agent.kill_worker()
    await plain_agent.serves_again()
    third = await refusal(plain_agent.processes.Start(request))

    assert first.facts["setting"] == second.facts["setting"] == third.facts["setting"] == "privileges.nice"
    assert third.reason == "PRIVILEGE_MISSING"


# How much.


@ROOT
@pytest.mark.parametrize("closed", ["program", "directory", "link"])
async def test_a_program_that_the_user_may_not_run_does_not_hide_the_next_one(
    shared_agent: RunningAgent, open_folder: Path, closed: str
) -> None:
    """An agent of root's has root's folders on its PATH, and the shell of that user would pass over them as well."""
    first, second = _with_tool(open_folder / "first"), _with_tool(open_folder / "second")
    if closed == "link":  # as of a version manager: where it leads is open, the way there is not
        first, versions = open_folder / "link", open_folder / "versions"
        versions.mkdir(mode=0o700)
        (versions / "current").symlink_to(open_folder / "first")
        first.symlink_to(versions / "current")
    else:
        (first if closed == "directory" else first / "tool").chmod(0o700)
    as_nobody = Privileges(user="nobody")
    only_first = to_start(["tool"], env={"PATH": f"{first}:/bin"}, directory="/", privileges=as_nobody)

    over = await run(
        shared_agent, ["tool"], env={"PATH": f"{first}:{second}:/bin"}, directory="/", privileges=as_nobody
    )
    refused = await refusal(shared_agent.processes.Start(only_first))

    assert over.data == b"second\n"
    assert (refused.reason, refused.facts["errno"]) == ("COMMAND_NOT_RUNNABLE", "EACCES")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A directory that everybody may enter, as the temporary directories of tests are not."""
    with TemporaryDirectory(dir="/tmp", prefix="gl-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def _with_tool(folder: Path) -> Path:
    """Makes a directory with a program that says where it is."""
    folder.mkdir(mode=0o755)
    tool = folder / "tool"
    tool.write_text(f"#!/bin/sh\necho {folder.name}\n")
    tool.chmod(0o755)
    return folder


async def test_umask_niceness_and_oom_score_are_as_asked_for(shared_agent: RunningAgent) -> None:
    """Together, and seen from within."""
    script = "umask; cut -d' ' -f19 /proc/self/stat; cat /proc/self/oom_score_adj"
    own = os.getpriority(os.PRIO_PROCESS, 0)
    nice = min(own + 3, 19)
    over = await run(shared_agent, script, privileges=Privileges(umask=0o27, nice=nice, oom_score=777))

    assert lines(over) == ["0027", str(nice), "777"]


async def test_zero_is_not_the_same_as_unset(shared_agent: RunningAgent) -> None:
    """A umask of zero makes files that everybody may write, which somebody may want."""
    over = await run(shared_agent, "umask", privileges=Privileges(umask=0))

    assert lines(over) == ["0000"]


RESOURCES = {
    RESOURCE_CPU: ("Max cpu time", 100, 200),
    RESOURCE_FILE_SIZE: ("Max file size", 1 << 20, 1 << 21),
    RESOURCE_DATA: ("Max data size", 100 << 20, 200 << 20),
    RESOURCE_STACK: ("Max stack size", 4 << 20, 4 << 20),
    RESOURCE_CORE: ("Max core file size", 0, 0),
    RESOURCE_OPEN_FILES: ("Max open files", 50, 60),
    RESOURCE_ADDRESS_SPACE: ("Max address space", 16 << 20, 32 << 20),
    RESOURCE_PROCESSES: ("Max processes", 500, 600),
    RESOURCE_LOCKED_MEMORY: ("Max locked memory", 0, 4096),
}


async def test_every_resource_can_be_limited(shared_agent: RunningAgent) -> None:
    """All at once; each is what the kernel shows under its name."""
    limits = [ResourceLimit(resource=each, soft=soft, hard=hard) for each, (_, soft, hard) in RESOURCES.items()]
    over = await run(shared_agent, ["cat", "/proc/self/limits"], privileges=Privileges(resource_limits=limits))

    assert set(Resource.values()) - {0} == set(RESOURCES)
    shown = {line[:26].strip(): line[26:].split()[:2] for line in lines(over)}
    assert {title: shown[title] for title, _, _ in RESOURCES.values()} == {
        title: [str(soft), str(hard)] for title, soft, hard in RESOURCES.values()
    }


async def test_a_limit_that_no_program_can_live_with_is_the_programs_end(shared_agent: RunningAgent) -> None:
    """Not the agent's."""
    tight = Privileges(resource_limits=[ResourceLimit(resource=RESOURCE_CPU, soft=1, hard=1)])
    over = await run(shared_agent, "while :; do :; done", privileges=tight)

    assert over.exit.signal in {9, 24}


# Repeats, and workers that die.


async def test_other_privileges_are_another_start(shared_agent: RunningAgent) -> None:
    """Under the same key that is a mistake, and the same start is not."""
    key = new_key()
    first = await run(shared_agent, "umask", key=key, privileges=Privileges(umask=0o22))
    again = await run(shared_agent, "umask", key=key, privileges=Privileges(umask=0o22))
    other = to_start("umask", key=key, privileges=Privileges(umask=0))
    refused = await refusal(shared_agent.processes.Start(other))

    assert (again.attached, again.process_id) == (True, first.process_id)
    assert refused.reason == "KEY_CONFLICT"


@ROOT
@pytest.mark.parametrize("step", STEPS[:5])
async def test_a_worker_that_dies_within_a_start_changes_nobody(step: str, tmp_path: Path) -> None:
    """What was asked for is set up once, or the start is repeated whole."""
    armed = tmp_path / "armed"
    process = AgentProcess(program=(faulty_agent.__file__,), environment={faulty_agent.VARIABLE: str(armed)})
    async with RunningAgent(process=process, owns_process=True) as agent:
        armed.write_text(step)
        key, privileges = new_key(), Privileges(user="daemon", umask=0o77, oom_score=500)
        request = to_start("id -u; umask; cat /proc/self/oom_score_adj", key=key, directory="/", privileges=privileges)
        with suppress(grpc.aio.AioRpcError):
            await agent.processes.Start(request)
        await agent.serves_again()
        over = await run(agent, request.command, key=key, directory="/", privileges=privileges)

        assert not armed.exists(), "the worker did not come by this step"
        assert lines(over) == [str(DAEMON.pw_uid), "0077", "500"]
        assert over.process.user == "daemon"


@ROOT
async def test_the_user_is_shown_as_long_as_the_process_is(agent: RunningAgent) -> None:
    """Also in lists, and by the next worker."""
    async with started(agent, ["sleep", "60"], directory="/", privileges=Privileges(user="nobody")) as start:
        await agent.kill_worker()
        await agent.serves_again()
        shown = (await listed(agent))[start.process_id]

        assert start.process.user == shown.user == "nobody"
        assert proc.uid(shown.pid) == NOBODY.pw_uid


# What processes get that do not say.


async def test_the_settings_say_what_processes_get_that_do_not_ask() -> None:
    """And what a start says counts."""
    script = "cut -d' ' -f19 /proc/self/stat; cat /proc/self/oom_score_adj"
    nice = min(os.getpriority(os.PRIO_PROCESS, 0) + 2, 18)
    async with RunningAgent(settings={"process_nice": nice, "process_oom_score": 400}) as agent:
        by_default = await run(agent, script)
        as_asked = await run(agent, script, privileges=Privileges(nice=nice + 1, oom_score=600))

    assert lines(by_default) == [str(nice), "400"]
    assert lines(as_asked) == [str(nice + 1), "600"]


async def test_processes_can_be_made_to_give_way() -> None:
    """Under pressure the agent must stay reachable, so that somebody can do something about it."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    async with RunningAgent(settings={"deprioritize_processes": None}) as agent:
        over = await run(agent, "cut -d' ' -f19 /proc/self/stat; cat /proc/self/oom_score_adj")

        assert lines(over) == [str(min(own + 5, 19)), "998"]
        assert os.getpriority(os.PRIO_PROCESS, agent.worker_pid) == own


@pytest.mark.parametrize(
    ("own", "given"),
    [((0, 0), (5, 998)), ((15, 997), (19, 998)), ((19, 998), (19, 1000)), ((-5, 1000), (0, 1000)), ((0, -1), (5, 0))],
)
def test_how_far_they_give_way_follows_from_the_agents_own(own: tuple[int, int], given: tuple[int, int]) -> None:
    """Nicer by five, and killed before it; ordinary beside an agent that is spared."""
    settings = with_priorities(AgentSettings(deprioritize_processes=True), own_nice=own[0], own_oom_score=own[1])

    assert (settings.process_nice, settings.process_oom_score) == given


def test_what_is_set_by_itself_is_not_changed_by_giving_way() -> None:
    """Zero, too, is a setting."""
    settings = AgentSettings(deprioritize_processes=True, process_nice=0, process_oom_score=0)

    assert with_priorities(settings, own_nice=3, own_oom_score=3) == settings


async def test_priorities_that_cannot_be_had_are_told_in_the_log_and_not_in_the_output() -> None:
    """Defect 17/19 of the reference: its warnings stood in the midst of what the command printed."""
    if why := agent_without_privileges.why_impossible():
        pytest.skip(why)
    process = AgentProcess(
        program=(agent_without_privileges.__file__,), settings={"process_nice": -20, "process_oom_score": -1000}
    )
    async with RunningAgent(process=process, owns_process=True) as agent:
        first, second = await run(agent, "echo out; echo err >&2"), await run(agent, "echo out")
        log = await logged(agent, "processes do not get their OOM score")

    assert (first.data, second.data) == (b"out\nerr\n", b"out\n")
    assert log.count("processes do not get their") == 2
