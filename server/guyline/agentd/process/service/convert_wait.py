"""Between the wire and the domain, for the call that waits."""

from guyline.agent.v1 import process_service_pb2 as pb
from guyline.agentd.process.process import Process
from guyline.agentd.process.service.convert import to_start
from guyline.agentd.process.service.problems import Problems
from guyline.agentd.process.waiting.pattern import Pattern, PatternRefused
from guyline.agentd.process.waiting.waits import ForExit, ForFile, ForPattern, ForPort, Outcome, Over, WaitFor
from guyline.rpc.cursor import Cursor

MOST_CONDITIONS = 16
MAX_PATTERN_BYTES = 1000
MAX_PATH_BYTES = 4096
LONGEST_WAIT = 300.0
"""Seconds; also what an unset timeout means."""
MAX_SHOWN_BYTES = 4096

_OVER = {Over.TIMEOUT: pb.WAIT_OVER_TIMEOUT, Over.OUTPUT_ENDED: pb.WAIT_OVER_OUTPUT_ENDED}


def to_wait(process: Process, request: pb.ProcessServiceWaitRequest) -> tuple[list[WaitFor], float]:
    """What is to be waited for, and for how many seconds. Raises InvalidInput, which says everything that is wrong."""
    problems = Problems()
    count = len(request.conditions)
    if not 1 <= count <= MOST_CONDITIONS:
        problems.add("conditions", f"{count} are given, it must be 1 to {MOST_CONDITIONS}")
        problems.raise_if_any()  # no more of them are looked at: compiling a pattern may take 10 ms
    wanted = [
        _to_condition(problems, process, each, f"conditions[{index}]") for index, each in enumerate(request.conditions)
    ]
    timeout = problems.seconds(request, "timeout", least=0, most=LONGEST_WAIT)
    problems.raise_if_any()
    return [each for each in wanted if each], LONGEST_WAIT if timeout is None else timeout


def _to_condition(problems: Problems, process: Process, given: pb.WaitCondition, path: str) -> WaitFor | None:
    match given.WhichOneof("condition"):
        case "exit":
            return ForExit()
        case "pattern":
            return _to_pattern(problems, process, given.pattern, f"{path}.pattern")
        case "port":
            if not 1 <= given.port.port <= 65_535:
                problems.add(f"{path}.port.port", f"{given.port.port} is not between 1 and 65535")
            return ForPort(given.port.port)
        case "file":
            problems.check_text(f"{path}.file.path", given.file.path, at_most=MAX_PATH_BYTES)
            if not given.file.path:
                problems.add(f"{path}.file.path", "is empty")
            return ForFile(given.file.path)
        case _:
            problems.add(path, "says nothing that this agent could wait for: an exit, a pattern, a port or a file")
            return None


def _to_pattern(problems: Problems, process: Process, given: pb.PatternCondition, path: str) -> WaitFor | None:
    length = len(given.pattern.encode())
    pattern = None
    if length > MAX_PATTERN_BYTES:
        problems.add(f"{path}.pattern", f"has {length} bytes, at most {MAX_PATTERN_BYTES} are allowed")
    else:
        try:
            pattern = Pattern(given.pattern)
        except PatternRefused as why:
            problems.add(f"{path}.pattern", f"is none in RE2's syntax: {why}")
    offset = to_start(problems, process, given, f"{path}.")
    return ForPattern(pattern, offset) if pattern else None


def to_response(process: Process, outcome: Outcome, shown: bytes) -> pb.ProcessServiceWaitResponse:
    """What a wait came to, but for the process."""
    response = pb.ProcessServiceWaitResponse(met=outcome.met)
    if found := outcome.found:
        response.match.offset = found.offset
        response.match.data = shown[:MAX_SHOWN_BYTES]
        response.match.cursor = Cursor(process.id_bytes, found.end).to_bytes()
    if outcome.over:
        response.over = _OVER[outcome.over]
    for offset in outcome.searched:
        response.searched.append(b"" if offset is None else Cursor(process.id_bytes, offset).to_bytes())
    return response
