"""Containers: programs that linkspan runs, each in a sandbox of its own.

containers.py  what can be asked of them: create, start, stop, kill, wait, remove
access.py      looking at them, and reaching inside: records, exec, logs
lifecycle.py   what happens to one: begun, ended, begun again, its network given back
networking.py  what it asks of the engine
recovery.py    what a new daemon finds, and makes of it
records.py     what is stored of one
restarts.py    when one begins again by itself
files.py       its /etc/hosts and /etc/resolv.conf
"""

from linkspan.engine.containers.containers import Containers
from linkspan.engine.containers.networking import Networking
from linkspan.engine.containers.records import ContainerRecord

__all__ = ["ContainerRecord", "Containers", "Networking"]
