"""Writes the page of the agent's settings from their dataclass.

python tools/settings_reference.py docs/settings.md
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from guyline.agentd.settings import AgentSettings
from guyline.daemon.setting import About, Unit, about_settings, default_of, to_text

HEAD = """\
<!-- Written by tools/settings_reference.py from server/guyline/agentd/settings.py. Change that, then run \
`make generate`. -->

# The agent's settings

Each setting can be a flag of `guyline agent`, a variable, or a line of the TOML file that `--config` names. A flag
counts before a variable, a variable before the file, the file before the default.

    guyline agent --journal-bytes 128MiB
    GUYLINE_AGENT_JOURNAL_BYTES=128MiB guyline agent
    journal_bytes = "128MiB"

Sizes are bytes, or a number with `KiB`, `MiB` or `GiB`; durations are seconds, or a number with `ms`, `s`, `m`, `h` or
`d`. What is wrong is said in one line, with the flag, variable or file it came from, and the command exits with 2. The
limits in force are in the answer of `GetInfo`: `guyline info`.

| Flag | Default | Bounds | Meaning |
| --- | --- | --- | --- |
"""


def rows() -> Iterator[str]:
    for name, about in about_settings(AgentSettings).items():
        default = about.default_text or _in_words(default_of(AgentSettings, name), about.unit)
        cells = (f"`--{name.replace('_', '-')}`", default, _bounds(about), _sentence(about.help))
        yield f"| {' | '.join(cells)} |\n"


def _bounds(about: About) -> str:
    if about.minimum is None or about.maximum is None:
        return ""
    return f"{_in_words(about.minimum, about.unit)} to {_in_words(about.maximum, about.unit)}"


def _in_words(value: object, unit: Unit) -> str:
    """A value as one would write it, a duration in the largest unit in which it is whole."""
    if unit == "seconds" and isinstance(value, int | float):
        for seconds, suffix in ((86400, "d"), (3600, "h"), (60, "m")):
            if value >= seconds and value % seconds == 0:
                return f"{value / seconds:g}{suffix}"
    return to_text(value, unit)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(HEAD + "".join(rows()))
