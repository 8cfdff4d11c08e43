"""Service discovery: the resolver that containers ask, in a process of its own.

What containers may know is a value: zones, hosts and resolvers (`records`), derived from the
engine's networks and sandboxes (`table`). The server process (`server`) holds it as a
`directory`, listens inside every sandbox, answers own names (`answers`) and forwards the
rest (`forward`). The daemon speaks to it through `client`; it lives on when the daemon ends.
"""
