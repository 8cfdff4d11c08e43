"""Sandboxes whose questions for names nobody answers: told once, and when it is over."""

from __future__ import annotations

import asyncio
from pathlib import Path

from engine.stage import ModelHost
from linkspan.engine.engine import Engine
from linkspan.engine.naming import NoNames
from linkspan.engine.requests import NetworkRequest, SandboxRequest
from linkspan.engine.settings import Settings


class FailingNames(NoNames):
    """Answers nobody while `reason` is set."""

    reason = ""

    async def replace(self, networks, sandboxes):
        return {one.id: self.reason for one in sandboxes} if self.reason else {}

    async def change(self, before, after, networks):
        return {after.id: self.reason} if self.reason and after is not None else {}


def test_lost_names_are_told_once_and_when_they_are_back(tmp_path: Path) -> None:
    async def run() -> None:
        names = FailingNames()
        settings = Settings(state_dir=str(tmp_path / "s"), run_dir=str(tmp_path / "r"))
        engine = await Engine.open(settings, ModelHost(), names)
        try:
            await engine.create_network(NetworkRequest(name="web", subnets=["10.20.0.0/24"]))
            names.reason = "no answer"
            await engine.create_sandbox(SandboxRequest(name="shop", networks=["web"]))
            assert engine.unanswered() == {"shop": "no answer"}
            await engine.reconcile()
            await engine.reconcile()
            names.reason = ""
            await engine.reconcile()
            assert engine.unanswered() == {}
            names.reason = "again"
            await engine.reconcile()
            await engine.remove_sandbox("shop")
            assert engine.unanswered() == {}
            await engine.events.flush()
            reader = engine.events.subscribe(0)
            seen = []
            async for event in reader:
                if event.action.startswith("names-"):
                    seen.append((event.action, event.name, event.attributes.get("reason")))
                if event.id == engine.events.last:
                    break
            assert seen == [
                ("names-lost", "shop", "no answer"),
                ("names-back", "shop", None),
                ("names-lost", "shop", "again"),
            ]
        finally:
            await engine.close()

    asyncio.run(asyncio.wait_for(run(), 30))
