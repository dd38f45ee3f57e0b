"""What must hold for the repository itself."""

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor

from guyline.access.v1.access_pb2 import RIGHT_UNSPECIFIED, needs

ROOT = Path(__file__).parents[1]
PROTOS = sorted((ROOT / "proto" / "guyline").rglob("*.proto"))

_PINNED = re.compile(r"[\w.-]+(\[[\w,-]+\])?==[^\s;]+( ; [^\\]+)? \\")
_HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
_COMMENT = re.compile(r" *#.*")
_REGISTRY = re.compile(r"\b(py(pi|thonhosted)|npmjs|crates)\.(org|com|io)\b")
_RPC = re.compile(r"(?P<comment>(?:^ *//.*\n)+)^ *rpc (?P<name>\w+)\(", re.MULTILINE)


def committed_files() -> list[Path]:
    """All that is committed or would be, but for generated code."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    paths = [Path(name.decode()) for name in listed.split(b"\0") if name]
    return [ROOT / path for path in paths if path.parts[0] != "generated" and (ROOT / path).is_file()]


def methods() -> list[MethodDescriptor]:
    """All methods of all services under proto/guyline."""
    found = []
    for path in PROTOS:
        module = path.relative_to(ROOT / "proto").with_suffix("").as_posix().replace("/", ".") + "_pb2"
        file: FileDescriptor = importlib.import_module(module).DESCRIPTOR
        found += [method for service in file.services_by_name.values() for method in service.methods]
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=lambda path: path.name)
def test_every_dependency_is_pinned_by_hash(path: Path) -> None:
    """What is installed must be what was looked at, from wherever it comes."""
    lines = [line for line in path.read_text().splitlines() if line and not _COMMENT.fullmatch(line)]

    assert [line for line in lines if not _PINNED.fullmatch(line) and not _HASH.fullmatch(line)] == []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        assert not _PINNED.fullmatch(line) or _HASH.fullmatch(following), f"{line} has no hash"


def test_no_committed_file_names_a_registry_or_this_checkout() -> None:
    """Where packages come from is the user's affair, and so is where the repository lies."""
    texts = {path: path.read_text(errors="replace") for path in committed_files()}

    assert [path for path, text in texts.items() if _REGISTRY.search(text)] == []
    assert [path for path, text in texts.items() if f"{ROOT}/" in text] == []


def test_the_keeper_imports_the_standard_library_only() -> None:
    """It outlives everything and must stay tiny: 13 MB, and nothing in it that could crash."""
    imports = "import sys; before = set(sys.modules); import guyline.agentd.keeper.__main__"
    program = f"{imports}; print(*set(sys.modules) - before, sep='\\n')"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = ran.stdout.split()
    ours = ("guyline.agentd.keeper", "guyline.agentd.system", "guyline.daemon")

    foreign = [name for name in loaded if name.partition(".")[0] not in {*sys.stdlib_module_names, "guyline"}]
    assert foreign == []
    assert [name for name in loaded if name.count(".") > 1 and not name.startswith(ours)] == []
    assert "guyline.agentd.keeper.keeper" in loaded
    assert "asyncio" not in loaded


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.full_name)
def test_every_rpc_says_which_right_it_needs(method: MethodDescriptor) -> None:
    """One that does not would be refused to everybody, at run time."""
    assert method.GetOptions().Extensions[needs] != RIGHT_UNSPECIFIED


def test_every_rpc_says_since_when_it_exists() -> None:
    """Who writes a client for an older agent must know what it has."""
    said = {match["name"]: match["comment"] for path in PROTOS for match in _RPC.finditer(path.read_text())}

    assert said.keys() == {method.name for method in methods()}
    assert [name for name, comment in said.items() if not re.search(r"// Since \d+\.\d+\.$", comment.strip())] == []


def test_the_rules_about_imports_are_written_down() -> None:
    """`make check` holds them; without a contract it would hold nothing, in silence."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

    assert any(
        contract["type"] == "forbidden"
        and "guyline.agentd.*.*" in contract["source_modules"]
        and {"grpc", "google", "guyline.rpc", "guyline.agent"} <= set(contract["forbidden_modules"])
        for contract in contracts
    ), "only edges may know the wire"
    assert any(
        contract["type"] == "layers" and "guyline.agentd" in contract.get("containers", ()) for contract in contracts
    ), "imports run one way"
    assert any(
        contract["type"] == "protected" and contract["allowed_importers"] == ["guyline.agentd.main"]
        for contract in contracts
    ), "only main introduces services"
