"""How a sandbox finds names outside: what a request states, checked; and its resolv.conf."""

from __future__ import annotations

import ipaddress
import os
import re

from linkspan.drivers.records import Sandbox
from linkspan.engine.core import Core
from linkspan.engine.requests import AttachmentRequest, SandboxRequest
from linkspan.errors import Conflict, InvalidRequest, StorageFailed

MOST_SERVERS = 8
_DOMAIN = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_-]{1,63})*\.?")
_OPTION = re.compile(r"[a-z][a-z0-9-]*(:[0-9]+)?")


def check_resolution(request: AttachmentRequest) -> None:
    """Refuse servers, search domains and options that a resolver could not use.

    Raises InvalidRequest naming the value.
    """
    if len(request.dns) > MOST_SERVERS:
        raise InvalidRequest(f"{len(request.dns)} DNS servers: at most {MOST_SERVERS} are asked")
    for server in request.dns:
        try:
            ipaddress.ip_address(server)
        except ValueError:
            raise InvalidRequest(
                f"DNS server {server!r} is no address; write it like 192.0.2.53"
            ) from None
    for domain in request.dns_search:
        if not _DOMAIN.fullmatch(domain):
            raise InvalidRequest(f"search domain {domain!r} is none; write it like corp.example")
    for option in request.dns_options:
        if not _OPTION.fullmatch(option):
            raise InvalidRequest(
                f"resolver option {option!r} is none; write one of resolv.conf(5), like ndots:2"
            )
    path = request.resolv_conf if isinstance(request, SandboxRequest) else None
    if path is not None and not os.path.isabs(path):
        raise InvalidRequest(f"resolv_conf is {path!r}; give an absolute path")


def write_resolv_conf(core: Core, sandbox: Sandbox, path: str) -> None:
    """Write a file that leads to the sandbox's resolver. Blocks.

    In place, for the file may be mounted somewhere. Raises Conflict when the sandbox has no
    resolver, StorageFailed.
    """
    text = core.naming.resolv_conf(sandbox, core.register.networks)
    if text is None:
        raise Conflict(
            f"{sandbox.name} is on no network with names, so {path} has nothing to say; "
            "leave resolv_conf out, or join another network than bridge"
        )
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise StorageFailed(f"writing {path}: {error.strerror}") from error
