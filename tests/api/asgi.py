"""Calling the application as a server would, without one."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """What the application answered; `body` is decoded when it is JSON."""

    status: int
    headers: dict[str, str]
    data: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.data) if self.data else None

    @property
    def error(self) -> dict[str, str]:
        return self.body["error"]


async def ask(
    application: Any, method: str, target: str, body: Any = None, *, raw: bytes | None = None
) -> Reply:
    """One request whose client stays until it is answered; a streamed answer is gathered."""
    path, _, query = target.partition("?")
    data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    # In two parts, as a network would: the application has to put them together.
    half = len(data) // 2
    inbox.put_nowait({"type": "http.request", "body": data[:half], "more_body": True})
    inbox.put_nowait({"type": "http.request", "body": data[half:], "more_body": False})
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [],
        "root_path": "",
    }
    await asyncio.wait_for(application(scope, inbox.get, send), 10)
    start = next(m for m in sent if m["type"] == "http.response.start")
    pieces = b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")
    headers = {name.decode(): value.decode() for name, value in start.get("headers", [])}
    return Reply(start["status"], headers, pieces)
