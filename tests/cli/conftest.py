"""The command line against a fake engine behind the real server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from api.served import Served, serve
from linkspan.cli import main


class Result(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Invoke = Callable[..., Result]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve(tmp_path / "sock") as one:
        yield one


@pytest.fixture
def alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Invoke:
    """Run a command where no daemon is."""

    def invoke(*arguments: str) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        out, err = capfd.readouterr()
        return Result(int(ended.value.code or 0), out, err)

    return invoke


@pytest.fixture
def invoke(alone: Invoke, served: Served, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Run a command that finds the fake daemon by LINKSPAN_SOCKET."""
    monkeypatch.setenv("LINKSPAN_SOCKET", served.path)
    return alone
