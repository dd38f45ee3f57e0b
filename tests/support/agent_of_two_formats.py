"""An agent whose next workers are of another version than its keeper: ``python agent_of_two_formats.py FLAGS``.

The file named by ``GUYLINE_TEST_FORMAT`` is what an upgrade of the installed package would have brought: as long as it
is there, a worker has another format of messages, or with ``illegible`` in it another ``Welcome``.
"""

import os
import sys
from pathlib import Path
from typing import NamedTuple, cast

VARIABLE = "GUYLINE_TEST_FORMAT"
ILLEGIBLE = "illegible"
LEGIBLE = "legible"


class _Welcome(NamedTuple):
    """As a version before it may have had it."""

    store_id: str


def _install() -> None:
    from guyline.agentd.keeper import messages

    try:
        installed = Path(os.environ[VARIABLE]).read_text()
    except FileNotFoundError:
        return
    messages.FORMAT += 1
    if installed == ILLEGIBLE:
        messages._KINDS["Welcome"] = cast("type[messages.Message]", _Welcome)


if __name__ == "__main__":
    if sys.argv[1:] == ["worker"]:
        from guyline.agentd.main import main as work

        _install()
        work()
    else:
        from guyline.agentd.launch import launch
        from guyline.agentd.settings import AgentSettings
        from guyline.daemon.settings_source import parse

        settings = parse(AgentSettings, sys.argv[1:], prog="agent of two formats", env_prefix="GUYLINE_AGENT_")
        launch(settings, worker=(sys.executable, __file__, "worker"))
