"""The Engine API as one ASGI application: versions, headers, routing; the rest is refused."""

from __future__ import annotations

from typing import Any

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from linkspan.api.docker import connections, containers, creation, events, networks, system
from linkspan.api.docker.endpoint import (
    MAX_VERSION,
    MIN_VERSION,
    DockerEndpoint,
    refuse,
    refuse_unsupported,
)
from linkspan.api.docker.paths import VERSIONED
from linkspan.api.docker.system import show_version
from linkspan.api.endpoint import send_answer
from linkspan.api.operation import Operation, Service

OPERATIONS: tuple[Operation, ...] = (
    *system.OPERATIONS,
    *creation.OPERATIONS,
    *networks.OPERATIONS,
    *connections.OPERATIONS,
    *containers.OPERATIONS,
    *events.OPERATIONS,
)
"""What we do of the Engine API. The paths are without the version."""


def build_docker(service: Service) -> ASGIApp:
    """The ASGI application that serves the Engine API with this service's engine."""
    by_path: dict[str, list[Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, []).append(operation)
    router = Router(
        [Route(path, DockerEndpoint(service, there)) for path, there in by_path.items()],
        redirect_slashes=False,
        default=_answer_unsupported,
    )
    headers = compose_headers(service.facts["version"])

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        found = VERSIONED.fullmatch(scope["path"])
        version, path = found.groups() if found else (show_version(MAX_VERSION), scope["path"])
        refusal = check_version(version)
        if refusal is not None:
            await send_answer(send_with_headers, refuse(400, refusal))
            return
        inside = {**scope, "path": path or "/", "path_params": {"version": version}}
        await router(inside, receive, send_with_headers)

    return serve


def compose_headers(version: str) -> list[tuple[bytes, bytes]]:
    """What is said with every answer; clients choose a version by it."""
    return [
        (b"api-version", show_version(MAX_VERSION).encode()),
        (b"docker-experimental", b"false"),
        (b"ostype", b"linux"),
        (b"swarm", b"inactive"),
        (b"server", f"linkspan/{version} (linux)".encode()),
    ]


def check_version(text: str) -> str | None:
    """Why a version is not spoken, in the words that clients look for; None if it is."""
    major, minor = map(int, text.split("."))
    if (major, minor) < MIN_VERSION:
        return (
            f"client version {text} is too old. Minimum supported API version is "
            f"{show_version(MIN_VERSION)}, please upgrade your client to a newer version"
        )
    if (major, minor) > MAX_VERSION:
        return (
            f"client version {text} is too new. Maximum supported API version is "
            f"{show_version(MAX_VERSION)}"
        )
    return None


async def _answer_unsupported(scope: Scope, receive: Receive, send: Send) -> None:
    await send_answer(send, refuse_unsupported(scope["method"], scope["path"]))
