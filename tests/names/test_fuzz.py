"""A few seconds of coverage-guided fuzzing, where atheris is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 5


def test_fuzzing_for_a_moment_finds_nothing(tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("no atheris for this Python: the dev extra has it for 3.11 on x86_64")
    program = Path(__file__).with_name("fuzz.py")
    done = subprocess.run(
        [
            sys.executable,
            str(program),
            f"-max_total_time={SECONDS}",
            "-max_len=600",
            "-rss_limit_mb=0",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS + 60,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "DONE" in done.stderr or "Done" in done.stderr
