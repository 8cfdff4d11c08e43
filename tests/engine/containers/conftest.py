"""No test here waits for the delays that people get."""

from __future__ import annotations

import pytest

from linkspan.engine.containers import restarts


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.path.name != "test_restarts.py":
        monkeypatch.setattr(restarts, "FIRST_DELAY", 0.001)
