"""The name and the marks by which rules, routes and packets are known to be ours."""

from __future__ import annotations

NAME = "linkspan"
ROUTE_PROTOCOL = 0x6C
"""Our mark on routes and rules (RTA protocol; 0x6c is unassigned in rt_protos)."""
TRANSLATED_MARK = 0x08000000
"""One bit of the packet mark: translated to a member of the isolated network it came from."""
CUT_MARK = 0x04000000
"""One bit of the connection mark: the flow was cut off. Its entry stays as long as anybody
sends, so that the kernel cannot take the flow up again in the middle (nf_conntrack_tcp_loose).
"""
