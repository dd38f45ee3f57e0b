"""``guyline completion``."""

from argparse import Namespace

from guyline.cli.arguments import build
from guyline.cli.say import say


def run(options: Namespace) -> int:
    """Prints a completion script."""
    import shtab

    say(shtab.complete(build(), shell=options.shell))
    return 0
