"""The worker: everything of the agent but its keeper, wired together. The keeper starts it, and again if it dies."""

import asyncio
import contextlib
import faulthandler
import gc
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from guyline.agent.v1.agent_info_service_pb2_grpc import add_AgentInfoServiceServicer_to_server
from guyline.agent.v1.process_service_pb2_grpc import add_ProcessServiceServicer_to_server
from guyline.agentd.description import Describer
from guyline.agentd.info.service import AgentInfoService
from guyline.agentd.journal.journal import MAX_DESCRIPTORS
from guyline.agentd.journal.journals import MAX_OPEN_AT_REST, Journals
from guyline.agentd.keeper import messages
from guyline.agentd.keeper.client import KeeperClient, OtherFormat
from guyline.agentd.keeper.table import Exit
from guyline.agentd.keeper.worker import CANNOT_SERVE, GRPC_ENVIRONMENT, SETTINGS, SOCKET
from guyline.agentd.process.ending.lookout import Lookout
from guyline.agentd.process.faults import FaultPoint, no_fault
from guyline.agentd.process.metrics import ProcessMetrics
from guyline.agentd.process.processes import Bounds, Processes
from guyline.agentd.process.service.process_service import OutputDefaults, ProcessService
from guyline.agentd.process.starting.environment import Environment
from guyline.agentd.process.starting.horizon import HorizonFile
from guyline.agentd.process.starting.keys import Keys
from guyline.agentd.process.starting.lookup import Lookup
from guyline.agentd.process.starting.priority import Priority
from guyline.agentd.process.starting.starter import Starter
from guyline.agentd.process.starting.users import Users
from guyline.agentd.process.streams.channels import MAX_KEPT
from guyline.agentd.process.streams.viewing import Views
from guyline.agentd.process.tasks import Tasks
from guyline.agentd.process.waiting.presence import Presence
from guyline.agentd.process.waiting.waits import Waits
from guyline.agentd.settings import AgentSettings
from guyline.agentd.system.allocator import keep_memory_together
from guyline.agentd.system.proc import this_boot
from guyline.agentd.upgrade import Upgrader
from guyline.daemon.logging import configure_logging, get_logger
from guyline.daemon.tracing import ExtraMissing
from guyline.rpc.authentication import Authentication, LocalAuthentication
from guyline.rpc.call import CallObserver
from guyline.rpc.observation import Observation
from guyline.rpc.server import CannotListen, RpcServer
from guyline.rpc.socket_path import SocketNotUsable
from guyline.rpc.tls import Tls
from guyline.rpc.token import TokenAuthentication, TokenFile, TokenFileNotUsable

_LONGEST_SWEEP_INTERVAL = 30.0  # seconds
_SHORTEST_SWEEP_INTERVAL = 0.1
_TELL_ENDS_WITHIN = 1.0  # seconds
_DESCRIPTORS_A_PROCESS = MAX_KEPT + MAX_DESCRIPTORS
_OTHER_FORMAT = 76
"""The exit code (EX_PROTOCOL of sysexits.h) of a worker that does not understand its keeper."""
_DESCRIPTORS_BESIDES = 256 + MAX_OPEN_AT_REST * MAX_DESCRIPTORS

log = get_logger("worker")


class Worker:
    """What the keeper's news mean to the rest; ``stopping`` is set once the worker is to end."""

    def __init__(self, keeper: KeeperClient, processes: Processes) -> None:
        self.stopping = asyncio.Event()
        self.is_end_of_agent = False  # rather than of this worker alone
        self._keeper = keeper
        self._processes = processes

    def exited(self, process_id: str, exit_: Exit) -> None:
        self._processes.exited(process_id, exit_)

    def shut_down(self, grace: float) -> None:
        log.info("the agent shuts down", grace_seconds=grace)
        self._processes.refuse_starts()

    def stop(self) -> None:
        self.is_end_of_agent = True
        self.stopping.set()

    def keeper_lost(self) -> None:
        log.error("the keeper died; taking its place", keeper_pid=self._keeper.keeper_pid)

    def keeper_not_replaced(self) -> None:
        self.stopping.set()


async def serve(settings: AgentSettings, keeper: KeeperClient, own_env: Mapping[str, str], reach: FaultPoint) -> None:
    """Runs the worker until it is told to stop."""
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(keeper.close)
        # The processes' descriptors go in one step with the connection: who takes a lost keeper's place needs them.
        last = stack.enter_context(contextlib.ExitStack())
        journals = Journals(settings.state_dir / "journals", quota_bytes=settings.journal_quota_bytes)
        last.callback(journals.close)
        lookup = Lookup(timeout=settings.lookup_timeout, default_directory=settings.directory, home=Path.home())
        stack.enter_context(lookup)
        waits = stack.enter_context(Waits(stack.enter_context(Presence(home=Path.home()))))
        views = stack.enter_context(Views())
        lookout = stack.enter_context(Lookout())
        tasks = await stack.enter_async_context(Tasks())
        observation = Observation(
            metrics_address=settings.metrics_address, environment=own_env, service_name="guyline-agent"
        )
        await stack.enter_async_context(observation)
        users = stack.enter_context(Users(timeout=settings.lookup_timeout))
        starter = Starter(
            keeper=keeper,
            lookup=lookup,
            users=users,
            environment=Environment(own_env, hook=lambda own: own),
            priority=Priority(settings.process_nice, settings.process_oom_score).as_far_as_allowed(),
            boot_id=this_boot(),
            reach=reach,
            keep_secrets=journals.keep_secrets,
        )
        processes = Processes(
            keeper=keeper,
            journals=journals,
            starter=starter,
            keys=_keys(settings),
            lookout=lookout,
            bounds=_bounds(settings),
            tasks=tasks,
            metrics=ProcessMetrics(observation.metrics),
            boot_id=this_boot(),
            reach=reach,
        )
        last.callback(processes.close)
        worker = Worker(keeper, processes)
        keeper.listen(worker)
        processes.restore()
        tasks.start(_sweep(processes), name="sweep")
        _on_signals(worker.stopping)
        observation.metrics.gauge("processes_running", "commands that run", lambda: len(processes.running))
        server = _server(
            settings, keeper, journals, processes, waits=waits, views=views, observers=observation.observers
        )
        await stack.enter_async_context(server)
        gc.freeze()  # what is there now stays: no collection needs to look at it
        keeper.ready()
        log.info("serving", address=str(server.address), running=len(processes.running))
        await worker.stopping.wait()
        if worker.is_end_of_agent:
            await processes.ends_are_told(at_most=_TELL_ENDS_WITHIN)


def _server(
    settings: AgentSettings,
    keeper: KeeperClient,
    journals: Journals,
    processes: Processes,
    *,
    waits: Waits,
    views: Views,
    observers: Sequence[CallObserver],
) -> RpcServer:
    tls = Tls(settings.tls_cert, settings.tls_key) if settings.tls_cert and settings.tls_key else None
    server = RpcServer(
        settings.address,
        authentication=_authentication(settings),
        observers=observers,
        tls=tls,
        max_request_bytes=settings.max_request_bytes,
        store_id=keeper.store_id,
        ends_with_process=True,
    )
    describer = Describer(settings=settings, keeper=keeper, journals=journals, processes=processes)
    upgrader = Upgrader(version=describer.version, ask_keeper=keeper.upgrade)
    info = AgentInfoService(describe=describer.describe, upgrade=upgrader.upgrade)
    server.add(add_AgentInfoServiceServicer_to_server, info)
    service = ProcessService(
        processes,
        waits=waits,
        views=views,
        instance_id=keeper.instance_id,
        defaults=OutputDefaults(kept_bytes=settings.journal_bytes, most_kept_bytes=settings.journal_quota_bytes),
        incarnation=os.urandom(16),
    )
    server.add(add_ProcessServiceServicer_to_server, service)
    return server


def _authentication(settings: AgentSettings) -> Authentication:
    return TokenAuthentication(TokenFile(settings.token_file)) if settings.token_file else LocalAuthentication()


def _keys(settings: AgentSettings) -> Keys:
    horizon = HorizonFile(settings.state_dir / "keys.horizon")
    return Keys(
        retention=settings.key_retention, most=settings.max_keys, horizon=horizon.read(), keep_horizon=horizon.write
    )


def _bounds(settings: AgentSettings) -> Bounds:
    """Fewer processes than the settings allow, if there would be no descriptors for them."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = max(1, (descriptors - _DESCRIPTORS_BESIDES) // _DESCRIPTORS_A_PROCESS)
    return Bounds(
        max_processes=min(settings.max_processes, possible),
        max_ended=settings.max_ended,
        max_chat_processes=settings.max_chat_processes,
        max_followers=settings.max_followers,
        ended_retention=settings.ended_retention,
        pause_patience=settings.pause_patience,
        input_bytes=settings.input_bytes,
        input_quota_bytes=settings.input_quota_bytes,
    )


async def _sweep(processes: Processes) -> None:
    a_tenth = processes.bounds.ended_retention / 10
    interval = max(_SHORTEST_SWEEP_INTERVAL, min(a_tenth, _LONGEST_SWEEP_INTERVAL))
    while True:
        try:
            for _ in processes.sweep():
                await asyncio.sleep(0)
        except OSError as why:  # a disk that fails now may work next time
            log.warning("the sweep was cut short", problem=str(why))
        except Exception:  # a defect: without the sweep nothing would ever be forgotten again
            log.exception("the sweep failed")
        await asyncio.sleep(interval)


def _on_signals(stopping: asyncio.Event) -> None:
    """TERM: make way for the next worker. INT is the keeper's business. USR1: say what is being done."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    loop.add_signal_handler(signal.SIGUSR1, _say_what_is_done)


def _say_what_is_done() -> None:
    faulthandler.dump_traceback(all_threads=True)
    for task in asyncio.all_tasks():
        try:
            task.print_stack(file=sys.stderr)
        except TypeError:  # gRPC's own tasks are no Python code, and have no lines to show
            sys.stderr.write(f"{task}\n")


def _own_environment() -> dict[str, str]:
    """The environment the agent was started with: without what its keeper added for this program alone."""
    return {name: value for name, value in os.environ.items() if GRPC_ENVIRONMENT.get(name) != value}


def _raise_descriptor_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def serve_and_exit(
    settings: AgentSettings, keeper: KeeperClient, own_env: Mapping[str, str], reach: FaultPoint
) -> NoReturn:
    """Runs the worker, then ends the process with a code that says how that went."""
    code = 1
    try:
        await serve(settings, keeper, own_env, reach)
        code = 0
    except (CannotListen, SocketNotUsable, TokenFileNotUsable, ExtraMissing) as why:
        log.error("cannot serve with these settings", problem=str(why))  # noqa: TRY400 - the text says it all
        code = CANNOT_SERVE
    except Exception:
        log.exception("the worker failed")
    finally:
        # Here and at once: the loop's end would cancel calls that have just come in, and Python would wait for its
        # threads, of which one may hang in the kernel, on a mount that does not answer.
        os._exit(code)


def main(reach: FaultPoint = no_fault) -> None:
    """Runs the worker of the keeper that started this process."""
    began = time.monotonic()
    settings = AgentSettings.from_json(os.pread(SETTINGS, os.fstat(SETTINGS).st_size, 0).decode())
    configure_logging(log_format=settings.log_format, level=settings.log_level)
    _raise_descriptor_limit()
    keep_memory_together()
    try:
        keeper = KeeperClient.connect(socket.socket(fileno=SOCKET), reach=reach)
    except OtherFormat as why:
        log.error(  # noqa: TRY400 - the text says it all
            "the installed version does not understand the keeper, which runs on with another one; install that again, "
            "or end the agent and start it anew",
            format=messages.FORMAT,
            keepers_format=why.found,
        )
        sys.exit(_OTHER_FORMAT)
    log.debug("handed over", entries=len(keeper.entries), seconds=time.monotonic() - began)
    asyncio.run(serve_and_exit(settings, keeper, _own_environment(), reach))


if __name__ == "__main__":
    main()
