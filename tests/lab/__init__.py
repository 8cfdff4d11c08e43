"""A laboratory of network namespaces: hosts, wires, traffic and a daemon of their own.

Every packet stays inside namespaces that the lab made, and everything it made is gone when it
closes, also after a failure. Tests take it as the fixture `lab`:

    def test_a_published_port_answers(lab):
        host, outside = lab.namespace("host"), lab.namespace("outside")
        lab.veth(host, "eth0", "192.0.2.10/24", outside, "eth0", "192.0.2.20/24")
        daemon = lab.daemon(host)
        sandbox = daemon.post("/v1/sandboxes", {"name": "shop", "networks": [...]})
        lab.listener_tcp(sandbox["netns"], "0.0.0.0", 80, reply="shop")
        assert lab.fetch(outside, "192.0.2.10", 8080).reply == "shop"
"""

from lab.bench import Lab
from lab.daemon import Daemon, DaemonDied, Refused
from lab.places import Namespace, Place, open_socket, path_of
from lab.processes import Process
from lab.traffic import Answer, Conversation, Listener, exchange_tcp, exchange_udp

__all__ = [
    "Answer",
    "Conversation",
    "Daemon",
    "DaemonDied",
    "Lab",
    "Listener",
    "Namespace",
    "Place",
    "Process",
    "Refused",
    "exchange_tcp",
    "exchange_udp",
    "open_socket",
    "path_of",
]
