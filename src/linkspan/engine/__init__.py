"""Networks, sandboxes and containers: what a daemon keeps true on one host.

engine.py       the way in: everything that can be asked
attaching.py    what happens between a request and packets that flow
connecting.py   networks joined and left by a sandbox that is up
detaching.py    the reverse of attaching
networks.py     networks, and the three that always exist
reconcile.py    making the host as the store says
drift.py        noticing what others change
uplinks.py      the host's own interfaces
containers/     programs that run in sandboxes; runtime/ carries them out
ipam/, publishing/, store/, events.py    addresses, ports, state, what happened
"""
