"""Which paths are Docker's.

Docker's clients put /v1.NN before a path, or nothing; our own paths begin with /v1/. One
comparison tells them apart, so that our own requests pay nothing for Docker's, and what
serves Docker's is loaded when the first of them comes.
"""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from linkspan.api.operation import Service

OUR_PREFIX = "/v1/"
VERSIONED = re.compile(r"/v([0-9]{1,4}\.[0-9]{1,4})(/.*|$)")
AREAS = frozenset(
    (
        *("_ping", "auth", "build", "commit", "configs", "containers", "distribution", "events"),
        *("exec", "grpc", "images", "info", "networks", "nodes", "plugins", "secrets"),
        *("services", "session", "swarm", "system", "tasks", "version", "volumes"),
    )
)
"""The first words of all paths of the Engine API."""


def divide(ours: ASGIApp, service: Service) -> ASGIApp:
    """An application that answers Docker's paths, and leaves all others to `ours`."""
    docker: ASGIApp | None = None

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal docker
        path = scope["path"]
        if path.startswith(OUR_PREFIX) or not is_docker_path(path):
            await ours(scope, receive, send)
            return
        if docker is None:
            from linkspan.api.docker.application import build_docker

            docker = build_docker(service)
        await docker(scope, receive, send)

    return serve


def is_docker_path(path: str) -> bool:
    """Whether a path is one of the Engine API, done here or not."""
    first = path.split("/", 2)[1] if path.startswith("/") else ""
    return first in AREAS or VERSIONED.fullmatch(path) is not None
