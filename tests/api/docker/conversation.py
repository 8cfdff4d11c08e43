"""Talking to the whole application as a Docker client would, over a fake engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from api.asgi import Reply, ask
from api.fake_engine import FakeEngine
from linkspan.api.application import build_application
from linkspan.api.operation import Service

Ask = Callable[..., Awaitable[Reply]]
Talk = Callable[[Ask, FakeEngine], Awaitable[None]]
FACTS = {
    "version": "1", "pid": 1, "namespace": 1, "socket": "/s", "state_dir": "/a", "run_dir": "/b",
    "default_network": "bridge", "started": 0.0,
}  # fmt: skip


def converse(talk: Talk) -> None:
    """Run a conversation with a fresh application."""

    async def with_engine() -> None:
        engine = await FakeEngine.open()
        service = Service(engine=engine, closing=asyncio.Event(), facts=FACTS)  # type: ignore[arg-type]
        application = build_application(service)

        async def ask_application(method: str, target: str, *more: Any, **named: Any) -> Reply:
            return await ask(application, method, target, *more, **named)

        await talk(ask_application, engine)

    asyncio.run(with_engine())


def with_filters(path: str, **filters: list[str] | dict[str, bool]) -> str:
    """A path with the query parameter `filters`."""
    return f"{path}?filters={quote(json.dumps(filters))}"
