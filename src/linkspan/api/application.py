"""The API as one ASGI application: Starlette's routing over the operations of each subject."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from linkspan.api import containers, events, host, networks, policies, sandboxes
from linkspan.api.docker.paths import divide
from linkspan.api.endpoint import PathEndpoint, send_answer
from linkspan.api.operation import Operation, Service
from linkspan.api.peers import PEER
from linkspan.api.refusals import refuse
from linkspan.engine.actors import act_for

OPERATIONS: tuple[Operation, ...] = (
    *sandboxes.OPERATIONS,
    *networks.OPERATIONS,
    *containers.OPERATIONS,
    *policies.OPERATIONS,
    *events.OPERATIONS,
    *host.OPERATIONS,
)
"""Everything that the API does."""


def build_application(service: Service, operations: Iterable[Operation] = OPERATIONS) -> Starlette:
    """The ASGI application that serves `operations` with this service's engine."""
    by_path: dict[str, list[Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, []).append(operation)
    routes = [
        Route(path.replace("{spec}", "{spec:path}"), PathEndpoint(service, there))
        for path, there in by_path.items()
    ]
    application = Starlette(routes=routes)
    application.router.redirect_slashes = False
    application.router.default = answer_unknown_path
    # Endpoints answer every error themselves: Starlette's own layers would only cost time.
    application.middleware_stack = _only_http(divide(application.router, service))
    return application


async def answer_unknown_path(scope: Scope, receive: Receive, send: Send) -> None:
    """404 for a path that no operation has."""
    message = f"there is nothing at {scope['path']}; /v1/openapi.json lists what there is"
    await send_answer(send, refuse(404, "not_found", message))


def _only_http(router: ASGIApp) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        else:
            act_for(scope.get(PEER))
            await router(scope, receive, send)

    return serve
