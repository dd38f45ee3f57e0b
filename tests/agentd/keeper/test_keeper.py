"""When the keeper tries again, and what it hands on."""

import time

from guyline.agentd.keeper.cgroups import Cgroups
from guyline.agentd.keeper.config import Config
from guyline.agentd.keeper.log import KeeperLog
from guyline.agentd.keeper.spawn import Spawner
from guyline.agentd.keeper.worker import Worker

CONFIG = Config(
    state_dir="/nowhere",
    worker=["/bin/false"],
    settings=-1,
    locks=[],
    shutdown_grace=1.0,
    json_log=True,
    quiet_log=False,
    descriptor_limit=1024,
    oom_score=0,
    instance_id="instance",
    started_at=0.0,
    process_cgroups="off",
)
NO_CGROUPS = Cgroups(why_none="nothing is spawned", log=KeeperLog(is_json=True, is_quiet=True))


def test_a_worker_that_dies_at_once_is_tried_again_ever_later_up_to_two_seconds() -> None:
    """White box, for the sake of time: the waits themselves would take eight seconds."""
    worker = Worker(CONFIG, Spawner.__new__(Spawner), NO_CGROUPS)  # nothing is spawned
    worker.starts = 2
    worker._born = time.monotonic()

    pauses = [worker.died() for _ in range(8)]
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_after_a_long_life_the_next_worker_comes_at_once() -> None:
    """A crash once a day is no sign of a worker that cannot live."""
    worker = Worker(CONFIG, Spawner.__new__(Spawner), NO_CGROUPS)
    worker.starts = 2
    worker._born = time.monotonic()
    first = worker.died()
    worker._born = time.monotonic() - 11

    assert (first, worker.died()) == (0.05, 0.0)


def test_a_config_comes_out_of_its_memory_file_as_it_went_in() -> None:
    """Keeper, worker and the next keeper hand it on and on."""
    config = CONFIG._replace(locks=[4, 5], table=6, worker_socket=7, worker_pid=8)

    assert Config.from_descriptor(config.to_descriptor()) == config
    assert (CONFIG.is_upgrade, config.is_upgrade) == (False, True)
