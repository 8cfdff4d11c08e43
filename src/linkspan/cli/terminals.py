"""Joining this process to a program that the daemon runs: streams, signals, exit status.

The bytes go to conmon directly, so they flow on when the daemon is restarted; only the exit
status comes from the daemon, and is asked for again when the daemon is back.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from linkspan.cli.client import Client, Refused
from linkspan.errors import DaemonUnreachable, LinkspanError, PermissionRefused

PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT")
PATIENCE = 15.0
"""Seconds that a daemon which is being restarted has to come back in."""
LEAVE_AFTER = 3
"""So many SIGINT or SIGTERM make us leave a program that does not listen to them."""


class Awaited:
    """The exit status of a program, asked for in a thread while its streams are served here."""

    def __init__(self, client: Client, *parts: str) -> None:
        self.client = client
        self.parts = parts
        self.status: int | None = None
        self.failure: LinkspanError | None = None
        self.thread = threading.Thread(target=self._ask, name="exit-status", daemon=True)
        self.thread.start()

    def _ask(self) -> None:
        last_answer = time.monotonic()
        while True:
            try:
                began = time.monotonic()
                self.status = self.client.post(*self.parts)["exit_code"]
                return
            except DaemonUnreachable as error:
                gone = error
            except Refused as error:
                if error.status != 503:
                    self.failure = error
                    return
                gone = DaemonUnreachable(error.message)
            now = time.monotonic()
            if now - began > 0.5:  # it was there for a while: its absence begins now
                last_answer = now
            if now - last_answer > PATIENCE:
                self.failure = gone
                return
            time.sleep(0.1)

    def read(self) -> int:
        """Wait for it.

        Raises:
            LinkspanError: it cannot be known; the program may go on.
        """
        self.thread.join()
        if self.failure is not None:
            raise self.failure
        assert self.status is not None
        return self.status


def check_attachable(folder: str) -> Path:
    """The folder of an attach socket, if this process may use it.

    Raises:
        PermissionRefused: it is root's.
    """
    if not os.access(folder, os.X_OK):
        raise PermissionRefused(
            "joining a container's input and output needs root: use sudo, or run it with -d "
            "and read `linkspan logs`"
        )
    return Path(folder)


def serve_streams(
    folder: Path, interactive: bool, terminal: bool, begin: Callable[[], None]
) -> bool:
    """Attach, let the program begin, and pass bytes until it ends; False if the user left."""
    from linkspan.engine.runtime.attach import AttachClient, AttachEnd

    with AttachClient(folder) as attached:
        begin()
        end = attached.join(stdin=0 if interactive else None, terminal=terminal)
    return end is not AttachEnd.DETACHED


@contextlib.contextmanager
def passed_signals(send: Callable[[str], Any], leave: str) -> Iterator[None]:
    """Pass the signals that we get on to the program; `leave` is said when we give up."""
    asked_to_end = 0

    def pass_on(number: int, _: object) -> None:
        nonlocal asked_to_end
        name = signal.Signals(number).name
        if name in ("SIGINT", "SIGTERM"):
            asked_to_end += 1
            if asked_to_end >= LEAVE_AFTER:
                click.echo(f"\nlinkspan: {leave}", err=True)
                os._exit(128 + number)
        with contextlib.suppress(LinkspanError):
            send(name)

    before: dict[int, Any] = {}
    for name in PASSED_ON:
        number = int(signal.Signals[name])
        before[number] = signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_terminal(tty: bool, interactive: bool) -> None:
    """Refuse a terminal for a program whose input is none.

    Raises:
        LinkspanError: standard input is not a terminal.
    """
    if tty and interactive and not os.isatty(0):
        raise LinkspanError("-t with -i needs a terminal, and standard input is none; leave out -t")
