"""Fuzzes one target until a time is up or something is found.

    python -m tests.fuzz.run NAME SECONDS FOLDER

FOLDER takes the inputs that proved interesting on the way; this process ends without a chance to remove it. A find is
written beside the seeds, so that the replay in the test suite fails until it is mended.
"""

import importlib
import sys

import atheris

from tests.fuzz.seeds import folder


def _main(name: str, seconds: str, grown: str) -> None:
    with atheris.instrument_imports(include=["guyline", "tests.fuzz"]):
        target = importlib.import_module(f"tests.fuzz.{name}")
    seeds = str(folder(name))
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={seeds}/", "-timeout=5", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", grown, seeds], target.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    _main(*sys.argv[1:])
