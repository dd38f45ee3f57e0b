"""Has a controller given to the children of a folder, as a keeper does, and tells how it went, line by line in JSON.

obtaining.py SERVER_PATH CGROUP CONTROLLER STEP...: moves into the cgroup; a step is ``obtain`` or ``give_back``.
A line has the cgroup in which this process lives afterwards, and the reason for which there is no controller.
"""

import json
import os
import sys
from pathlib import Path


def _main() -> None:
    server, group, controller, *steps = sys.argv[1:]
    sys.path.insert(0, server)
    from guyline.agentd.keeper.controllers import Controllers
    from guyline.agentd.system.cgroup import own_cgroup

    Path(group, "cgroup.procs").write_text(str(os.getpid()))
    for step in steps:
        controllers = Controllers(own_cgroup() or "", "guyline-x", wanted={"limit": controller})  # as after an upgrade
        why = getattr(controllers, step)() or {}
        print(json.dumps([own_cgroup(), why.get("limit", "")]), flush=True)


if __name__ == "__main__":
    _main()
