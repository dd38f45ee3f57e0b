"""An agent whose worker kills itself at a fault point: ``python faulty_agent.py FLAGS`` as ``guyline agent FLAGS``.

The file named by ``GUYLINE_TEST_FAULT`` arms it: when the worker reaches the point named in the file, it removes the
file and dies by SIGKILL, once.
"""

import os
import signal
import sys
from pathlib import Path

VARIABLE = "GUYLINE_TEST_FAULT"


def _die_if_armed(name: str, /) -> None:
    armed = Path(os.environ[VARIABLE])
    try:
        wanted = armed.read_text()
    except FileNotFoundError:
        return
    if wanted == name:
        armed.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        from guyline.agentd.main import main as work

        work(reach=_die_if_armed)
    else:
        from guyline.agentd.launch import launch
        from guyline.agentd.settings import AgentSettings
        from guyline.daemon.settings_source import parse

        settings = parse(AgentSettings, sys.argv[1:], prog="faulty agent", env_prefix="GUYLINE_AGENT_")
        launch(settings, worker=(sys.executable, __file__, "worker"))
