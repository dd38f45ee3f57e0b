"""Starting a command: what must be found and made, then one message to the keeper, which spawns it."""

import errno
import os
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from guyline.agentd.keeper import messages as m
from guyline.agentd.keeper import table
from guyline.agentd.keeper.client import KeeperGone, Spawned
from guyline.agentd.keeper.setup import Setup
from guyline.agentd.process.errors import (
    CommandNotRunnable,
    KeeperLost,
    PrivilegeMissing,
    StartCanceled,
    SystemExhausted,
)
from guyline.agentd.process.exhaustion import EXHAUSTED, exhaustion_told
from guyline.agentd.process.faults import FaultPoint
from guyline.agentd.process.spec import Origin, StartSpec
from guyline.agentd.process.starting.environment import Environment
from guyline.agentd.process.starting.lookup import Found, Lookup
from guyline.agentd.process.starting.priority import Priority
from guyline.agentd.process.starting.privileges import setup_failure
from guyline.agentd.process.starting.users import Users
from guyline.agentd.process.streams.channels import Channels
from guyline.agentd.process.streams.secrets import chosen
from guyline.errors import GuylineError

LASTING_FAILURES = (CommandNotRunnable, PrivilegeMissing)
"""Remembered for the start's key. Others may pass: the same key may try again."""
_LEAST_PAUSED_BYTES = 16 << 20
"""With PAUSE at least so much is kept: what was sent but not received must still be there for the next connection."""


class SpawningKeeper(Protocol):
    """What a start asks of the keeper; see ``keeper.client.KeeperClient``."""

    entries: dict[str, table.Entry]

    @property
    def why_no_limits(self) -> Mapping[str, str]: ...

    async def start(self, request: m.Start, descriptors: list[int]) -> Spawned: ...
    def forget(self, process_id: str) -> None: ...


class Starter:
    """Has commands spawned. ``reach`` is called between the steps, ``keep_secrets`` before a spawn, with its id."""

    def __init__(
        self,
        *,
        keeper: SpawningKeeper,
        lookup: Lookup,
        users: Users,
        environment: Environment,
        priority: Priority,
        boot_id: str,
        reach: FaultPoint,
        keep_secrets: Callable[[str, Mapping[str, bytes]], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keep_secrets = keep_secrets
        self._keeper = keeper
        self._lookup = lookup
        self._users = users
        self._environment = environment
        self._priority = priority
        self._boot_id = boot_id
        self._reach = reach
        self._clock = clock

    async def spawn(
        self, spec: StartSpec, *, process_id: str, sequence: int, chat_id: str | None, fingerprint: str
    ) -> tuple[table.Entry, Origin]:
        """Spawns one command; its output waits in the pipes that the entry holds.

        Raises:
            GuylineError: It was not spawned; of KeeperLost alone nobody can say.
        """
        spec.privileges.demand_features(self._keeper.why_no_limits)
        identity = await self._users.find(spec.privileges.user, spec.privileges.group)
        setup = spec.privileges.to_setup(identity, self._priority)
        env = self._environment.for_command({**identity.env, **spec.requested_env}, chat_id)
        secrets = chosen(spec.redact, env)
        found = await self._lookup.find(spec.arguments[0], spec.directory, env, with_others=identity.is_another)
        self._reach("start.looked_up")
        try:
            origin = Origin(
                process_id=process_id,
                sequence=sequence,
                command=spec.command,
                argv=spec.arguments,
                directory=found.directory_path,
                chat_id=chat_id,
                background=spec.background,
                separate=spec.separate,
                pause=spec.pause,
                kept_bytes=max(spec.kept_bytes, _LEAST_PAUSED_BYTES) if spec.pause else spec.kept_bytes,
                created_at=self._clock(),
                boot_id=self._boot_id,
                key=spec.key.value if spec.key else None,
                key_created_at=spec.key.created_at if spec.key else 0.0,
                fingerprint=fingerprint,
                input_mode=spec.input_mode,
                time_limits=spec.time_limits,
                began_at=time.monotonic(),
                redact=spec.redact,
                labels=dict(spec.labels),
                user=spec.privileges.user,
            )
            self._keep(process_id, secrets)
            with Channels.made(
                separate=spec.separate, input_mode=spec.input_mode, terminal=spec.terminal, owner=setup.uid
            ) as channels:
                self._reach("start.prepared")
                await self._ask_keeper(
                    origin, found, env, setup._replace(terminal=channels.terminal, programs=found.others), channels
                )
                channels.keep()
        finally:
            os.close(found.directory)
        return self._keeper.entries[process_id], origin

    def _keep(self, process_id: str, secrets: Mapping[str, bytes]) -> None:
        if not secrets:
            return
        with exhaustion_told("what is not to be shown"):
            self._keep_secrets(process_id, secrets)

    async def _ask_keeper(
        self, origin: Origin, found: Found, env: Mapping[str, str], setup: Setup, channels: Channels
    ) -> None:
        request = m.Start(
            process_id=origin.process_id,
            info=origin.to_json(),
            program=found.program,
            argv=list(origin.argv),
            env=dict(env),
            child=list(channels.child),
            kept=list(channels.kept),
            setup=setup.to_json(),
        )
        descriptors = [found.directory, *channels.child.values(), *channels.kept.values()]
        try:
            await self._keeper.start(request, descriptors)
        except KeeperGone as why:
            raise KeeperLost from why
        except OSError as why:
            failure = spawn_failure(origin, why.errno or errno.EINVAL, getattr(why, "part", ""))
            if not is_remembered(origin, failure):
                self._keeper.forget(origin.process_id)
            raise failure from why
        self._reach("start.answered")


def is_remembered(origin: Origin, failure: GuylineError) -> bool:
    """Whether a failed spawn is what its key stands for from then on."""
    return origin.key is not None and isinstance(failure, LASTING_FAILURES)


def spawn_failure(origin: Origin, number: int, part: str) -> GuylineError:
    """What a caller is told of a spawn that failed with this errno, at this part of its set-up if it was that."""
    if origin.is_fence:
        assert origin.key
        return StartCanceled(origin.key)
    if number in EXHAUSTED:
        return SystemExhausted(number)
    return setup_failure(part, number) or CommandNotRunnable(origin.argv[0], number)
