"""Measures the agent beside references in the same run; docs/bench.md says how to read it.

    python -m tests.bench [NAME ...]

Prints a table and, as the last line, the same as JSON.
"""

import argparse
import asyncio
import importlib
import os
import sys

from tests.bench.harness import Figure, ReferenceMissingError, print_table, to_json

_NAMES = (
    "empty_call",
    "run_true",
    "run_rate",
    "output",
    "many",
    "recovery",
    "cli",
    "keystroke",
    "sdk_run",
    "input",
    "reading",
)


async def _measure(names: list[str]) -> tuple[list[Figure], dict[str, str]]:
    figures: list[Figure] = []
    missing: dict[str, str] = {}
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr)
        try:
            figures += await importlib.import_module(f"tests.bench.{name}").measure()
        except ReferenceMissingError as why:
            missing[name] = str(why)
            print(f"{name} was not measured: {why}", file=sys.stderr)
    return figures, missing


def main() -> None:
    """Runs the benchmarks that the command line names, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(_NAMES))
    names = parser.parse_args().names or list(_NAMES)
    if unknown := set(names) - set(_NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(_NAMES)}")
    os.environ["GRPC_VERBOSITY"] = "NONE"  # read at gRPC's import, which is yet to come; else it prints each GOAWAY
    figures, missing = asyncio.run(_measure(names))
    print_table(figures)
    print(to_json(figures, missing))


if __name__ == "__main__":
    main()
