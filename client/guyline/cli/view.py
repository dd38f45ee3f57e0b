"""``guyline view``."""

import base64
from argparse import Namespace

from guyline.cli.dial import agent_of, process_of
from guyline.cli.look import left_by_ctrl_c
from guyline.cli.sink import STDOUT, write, write_json
from guyline.cli.text import to_json
from guyline.client.enums import OutputStyle, OutputWait
from guyline.client.view import View


async def run(options: Namespace) -> int:
    """Shows what a process printed, made fit to be read."""
    with left_by_ctrl_c():
        await _show(options)
    return 0


async def _show(options: Namespace) -> None:
    async with agent_of(options) as agent:
        process = await process_of(agent, options.process)
        view = await process.view(
            cursor=options.since_cursor,
            style=OutputStyle.RAW if options.raw else OutputStyle.PLAIN,
            wait=options.wait,
            wait_for=OutputWait.OUTPUT if options.new else OutputWait.EXIT,
            max_bytes=options.max,
        )
    if options.json:
        await write_json(_to_json(view))
    else:
        await write(STDOUT, view.data)


def _to_json(view: View) -> dict[str, object]:
    return {
        "process": to_json(view.process),
        "text": view.text,
        "from_offset": view.from_offset,
        "to_offset": view.to_offset,
        "omission": to_json(view.omission),
        "cut_lines": view.cut_lines,
        "cut_bytes": view.cut_bytes,
        "redactions": view.redactions,
        "cursor": base64.b64encode(view.cursor).decode(),
    }
