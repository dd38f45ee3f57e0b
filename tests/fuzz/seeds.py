"""The inputs that each target starts from, and everything it ever fell over: one file each."""

from pathlib import Path

NAMES = ("requests", "metadata", "records", "messages")
"""The targets: modules of this folder with a function ``one_input``."""


def folder(name: str) -> Path:
    """Returns where a target's inputs lie."""
    return Path(__file__).parent / "corpus" / name
