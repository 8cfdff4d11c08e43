"""Ways of connecting containers: Network and Endpoints in, data plane out. Pure.

null.py       nothing but loopback
host.py       the host's own network
bridge.py     a Linux bridge, veth pairs, NAT
sandbox.py    routes and ports across a sandbox's endpoints
published.py  published ports as map elements
uplink.py     forwarding on the host's own interfaces
firewall.py   the constant tables that all of them fill
"""
