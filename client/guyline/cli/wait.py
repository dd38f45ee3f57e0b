"""``guyline wait``."""

import base64
from argparse import Namespace

from guyline.cli.dial import agent_of, process_of
from guyline.cli.say import complain, say, say_json
from guyline.cli.text import on_one_line, to_json
from guyline.client.completed import in_words
from guyline.client.conditions import Exited, Met, NotMet
from guyline.client.enums import WaitOver

_TIME_OVER = 124  # as timeout(1) has it
_WILL_NOT_BE = 1


async def run(options: Namespace) -> int:
    """Waits until one of several things holds, and says which."""
    written = options.conditions or [("exit", Exited())]
    async with agent_of(options) as agent:
        process = await process_of(agent, options.process)
        try:
            met = await process.wait_for(*(condition for _, condition in written), timeout=options.timeout)
        except NotMet as error:
            return _in_vain(error, as_json=options.json)
    text = written[met.index][0]
    if options.json:
        say_json(_to_json(met, text))
    else:
        say(f"{text}  {_more(met)}".rstrip())
    return 0


def _in_vain(error: NotMet, *, as_json: bool) -> int:
    if as_json:
        say_json({"met": None, "over": error.over.label, "process": to_json(error.process)})
    else:
        complain(f"guyline: {error}")
    return _WILL_NOT_BE if error.over is WaitOver.OUTPUT_ENDED else _TIME_OVER


def _more(met: Met) -> str:
    if met.match is not None:
        return f"at {met.match.offset}: {on_one_line(met.match.data.decode(errors='replace'))}"
    return in_words(met.process.exit) if isinstance(met.condition, Exited) and met.process.exit else ""


def _to_json(met: Met, text: str) -> dict[str, object]:
    said: dict[str, object] = {"met": text, "index": met.index, "process": to_json(met.process)}
    if met.match is not None:
        said["match"] = {
            "offset": met.match.offset,
            "base64": base64.b64encode(met.match.data).decode(),
            "cursor": base64.b64encode(met.match.cursor).decode(),
        }
    return said
