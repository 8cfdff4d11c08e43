"""Fixtures of tests that call the kernel layer itself, inside a namespace of their own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import Namespace
from linkspan.kernel import namespaces
from linkspan.kernel.apply import Kernel


@pytest.fixture
def home(netns: Callable[[str], Namespace]) -> Iterator[Namespace]:
    """A fresh namespace that the test itself is in, with what it starts."""
    place = netns("home")
    with namespaces.opened(place.path) as descriptor, namespaces.entered(descriptor):
        yield place


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """A folder for namespaces; those left in it are let go of."""
    yield tmp_path
    for name in namespaces.held_in(str(tmp_path / "netns")):
        namespaces.delete(str(tmp_path / "netns" / name))


@pytest.fixture
def kernel(home: Namespace, run_dir: Path) -> Iterator[Kernel]:
    """A writer whose host namespace is `home`."""
    made = Kernel(str(run_dir))
    yield made
    made.close()


@pytest.fixture
def ip() -> Callable[..., Any]:
    """`ip -j` in the test's namespace, or the one held on `path`: what the kernel says."""

    def run(words: str, path: str | None = None) -> Any:
        enter = ["nsenter", f"--net={path}"] if path else []
        result = subprocess.run(
            [*enter, "ip", "-j", "-d", *words.split()], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"ip {words}: {result.stderr}"
        return json.loads(result.stdout) if result.stdout.strip() else []

    return run
