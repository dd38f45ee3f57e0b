"""A session promises to leave nothing behind; a check that never found anything would prove nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("careless", "found"),
    [
        ("import os; os.open('/dev/null', os.O_RDONLY)", "descriptors left behind: ['/dev/null']"),
        ("import tempfile; tempfile.mkstemp(suffix='forgotten')", "forgotten']"),
        ("import subprocess; subprocess.run(['sh', '-c', 'setsid sleep 60 >/dev/null 2>&1 &'])", "sleep 60']"),
    ],
    ids=["descriptor", "file", "process"],
)
def test_what_a_test_leaves_behind_fails_its_session(careless: str, found: str, tmp_path: Path) -> None:
    """Leaks show in the run that brought them, not on the machine of somebody else next year."""
    (tmp_path / "test_careless.py").write_text(f"def test_careless():\n    {careless}\n")
    options = ["-p", "tests.conftest", "-p", "no:xdist", "-c", str(ROOT / "pyproject.toml"), "-o", f"pythonpath={ROOT}"]
    places = ["--rootdir", str(tmp_path), "--basetemp", str(tmp_path / "base"), str(tmp_path)]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *places],
        cwd=ROOT,
        env=os.environ | {"GUYLINE_TEST_SLOW": "0.03"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "1 passed, 1 error" in ran.stdout
    assert found in ran.stdout
