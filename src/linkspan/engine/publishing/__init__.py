"""Published ports: what a request means, what it clashes with, which host port is free.

Pure: what the host's processes and addresses are is given as values.

specification.py  the text of a request, parsed
index.py          which host ports are published, and by whom
sockets.py        which host ports a process listens on
assignment.py     a request's published ports, with no clash left
closing.py        which published ports a text means that closes some
"""

from linkspan.engine.publishing.assignment import assign_ports
from linkspan.engine.publishing.closing import Closing, close_ports
from linkspan.engine.publishing.index import PortIndex
from linkspan.engine.publishing.sockets import HostSocket, Listeners
from linkspan.engine.publishing.specification import PortSpecification, parse_port

__all__ = [
    "Closing",
    "HostSocket",
    "Listeners",
    "PortIndex",
    "PortSpecification",
    "assign_ports",
    "close_ports",
    "parse_port",
]
