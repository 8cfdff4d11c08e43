"""Docker's Engine API on our socket: the part that is about networks.

Docker's own clients manage our networks with it, and see our sandboxes as containers. What
it says of paths, statuses and fields is described in moby's api/swagger.yaml and
api/docs/CHANGELOG.md.

paths.py        which paths are Docker's
application.py  versions, headers, routing; all else is refused
endpoint.py     queries and errors as Docker's clients write and read them
filters.py      the query parameter `filters`
patterns.py     names matched by a pattern, in bounded time
times.py        moments and durations as Docker writes them
networks.py     list, inspect, remove, prune
creation.py     create: from Docker's request to ours
connections.py  connect and disconnect
containers.py   sandboxes listed and inspected as containers
shown_*.py      networks, endpoints and sandboxes as Docker shows them
written.py      what a client wrote and our records have no place for
messages.py     what happened, in Docker's words
events.py       the stream of it
system.py       ping, version, info
"""
