"""Addresses from a segment's own DHCP server (RFC 2131), one lease an endpoint.

messages.py    DHCP messages as records, and their bytes (RFC 2132)
frames.py      the Ethernet frames that carry them, for a host that has no address yet
client.py      one client as a state machine: events in, commands out, no clock and no socket
exchange.py    a client with a packet socket, in the event loop
leasing.py     the leases of all endpoints: acquired, renewed, lost, released, stored
"""
