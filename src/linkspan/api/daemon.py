"""The daemon process: lock, engine, socket, API; ready, until a signal ends it.

What it made stays when it ends: no packet and no container is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Generator

import uvicorn

from linkspan import __version__
from linkspan.api.application import build_application
from linkspan.api.listening import identify, open_listener, remove_own
from linkspan.api.operation import Service
from linkspan.api.peers import PeerProtocol
from linkspan.api.readiness import notify
from linkspan.api.rights import check_rights
from linkspan.engine.engine import Engine
from linkspan.engine.settings import Settings
from linkspan.names.client import NamesService

logger = logging.getLogger("linkspan.daemon")

PATIENCE = 0.7
"""Seconds that open answers have to end in, once a signal told the daemon to end."""


class Server(uvicorn.Server):
    """uvicorn on our socket; signals are our own business.

    `ready` is set when requests are answered.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals alone."""
        yield


def run_daemon(settings: Settings, socket_path: str) -> None:
    """Serve until SIGTERM or SIGINT, or until a purge is done.

    Raises:
        PermissionRefused: this is not root.
        Conflict: another daemon works in this namespace, with these folders or on this socket.
        LinkspanError: the engine could not be opened.
    """
    check_rights("the daemon")
    with asyncio.Runner(loop_factory=_make_loop) as runner:
        runner.run(serve(settings, os.path.abspath(socket_path)))


def _make_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


async def serve(settings: Settings, socket_path: str) -> None:
    """Open the engine, answer on the socket, close both."""
    closing = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _begin_closing, closing, signal.Signals(number).name)
    loop.add_signal_handler(signal.SIGHUP, _explain_settings)
    started = time.monotonic()
    opening = asyncio.ensure_future(
        Engine.open(settings, naming=NamesService(settings.run_dir, settings.resolv_conf))
    )
    if not await _finished_before(opening, closing):
        return
    engine = opening.result()
    try:
        listener = open_listener(socket_path)
        identity = identify(socket_path)
        try:
            service = Service(
                engine=engine, closing=closing, facts=collect_facts(settings, socket_path)
            )
            logger.info(
                "linkspan %s serves %s; ready after %.0f ms",
                __version__,
                socket_path,
                (time.monotonic() - started) * 1000,
            )
            await answer_requests(service, listener)
        finally:
            remove_own(listener, socket_path, identity)
    finally:
        notify("STOPPING=1")
        await engine.close()
    if service.purged:
        logger.info("ended after a purge; nothing of linkspan's is left in this namespace")
    else:
        logger.info("ended; networks and containers stay as they are")


async def answer_requests(service: Service, listener: socket.socket) -> None:
    """Serve the API until `service.closing` is set."""
    config = uvicorn.Config(
        build_application(service),
        loop="none",
        http=PeerProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=1024,
        timeout_graceful_shutdown=None,
    )
    server = Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    readying = asyncio.ensure_future(server.ready.wait())
    await asyncio.wait((serving, readying), return_when=asyncio.FIRST_COMPLETED)
    readying.cancel()
    # What was made while starting lives as long as the daemon: no collection need look at it.
    gc.collect()
    gc.freeze()
    notify(f"READY=1\nSTATUS=serving\nMAINPID={os.getpid()}")
    waiting = asyncio.ensure_future(service.closing.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    server.should_exit = True
    done, _ = await asyncio.wait((serving,), timeout=PATIENCE)
    if not done:
        server.force_exit = True
        await asyncio.wait((serving,), timeout=0.3)
    if serving.done():
        serving.result()
    else:
        serving.cancel()


def collect_facts(settings: Settings, socket_path: str) -> dict[str, object]:
    """What GET /v1/info says of this process."""
    return {
        "version": __version__,
        "pid": os.getpid(),
        "namespace": os.stat("/proc/thread-self/ns/net").st_ino,
        "socket": socket_path,
        "state_dir": settings.state_dir,
        "run_dir": settings.run_dir,
        "default_network": settings.default_network,
        "started": time.time(),
    }


def _begin_closing(closing: asyncio.Event, name: str) -> None:
    if not closing.is_set():
        logger.info("%s: ending", name)
    closing.set()


def _explain_settings() -> None:
    logger.info("SIGHUP: settings are read at the start; a restart touches no packet")


async def _finished_before(work: asyncio.Future[Engine], closing: asyncio.Event) -> bool:
    """Wait for the engine; a signal meanwhile gives it up. Its errors are raised."""
    waiting = asyncio.ensure_future(closing.wait())
    await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if work.done():
        work.result()
        return True
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    return False
