"""Where linkspan keeps its state: one interface, SQLite behind it.

interface.py  what a store promises, and its key space
sqlite.py     one file on this host
watch.py      watching from the process that writes
"""

from linkspan.engine.store.interface import Change, Entry, Store, Watch
from linkspan.engine.store.sqlite import SqliteStore

__all__ = ["Change", "Entry", "SqliteStore", "Store", "Watch"]
