"""What a store of state is: entries by key, changed together or not at all, and watched.

One key space for every backend, "/"-separated text:

    networks/<id>                 Network
    sandboxes/<id>                Sandbox
    containers/<id>               ContainerRecord
    names/<kind>/<name>           the id that a name stands for
    leases/<network>/<address>    who holds an address
    cursors/<network>/<subnet>    the address that was leased last
    events/<number>               what happened

Values are bytes; those who write them know their shape. Every transaction that changes
something gets a revision, one higher than the one before, also across restarts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Protocol

import msgspec

from linkspan.errors import InvalidRequest


class Entry(msgspec.Struct, frozen=True):
    """One key and its value; `revision` is that of the transaction that last wrote it."""

    key: str
    value: bytes
    revision: int


class Change(msgspec.Struct, frozen=True):
    """One key that a transaction wrote, or deleted (`value` is None)."""

    key: str
    value: bytes | None
    revision: int


class Watch(Protocol):
    """Changes below one prefix, in the order in which they happened."""

    def __aiter__(self) -> AsyncIterator[Change]:
        """Itself: a watch is read once."""
        ...

    async def __anext__(self) -> Change:
        """The next change; Outdated when changes were lost and all must be listed again."""
        ...

    def close(self) -> None:
        """Stop watching; an iteration that waits ends."""
        ...


class Store(Protocol):
    """Where state is kept."""

    @property
    def revision(self) -> int:
        """The revision of the last transaction that is known here."""
        ...

    async def get(self, key: str) -> Entry | None:
        """The entry of a key, None when there is none.

        Raises:
            StorageFailed: it could not be read.
        """
        ...

    async def list(
        self, prefix: str, *, after: str = "", limit: int | None = None, reverse: bool = False
    ) -> list[Entry]:
        """Entries whose key begins with `prefix`, in order of their keys' code points.

        `after` leaves out keys up to and including it; `reverse` gives the last key first, and
        then `limit` keeps the last ones.

        Raises:
            StorageFailed: they could not be read.
        """
        ...

    async def transaction(
        self,
        puts: Mapping[str, bytes] | None = None,
        deletes: Iterable[str] = (),
        expect: Mapping[str, int | None] | None = None,
    ) -> int:
        """Write and delete keys, all or none; gives the revision.

        `expect` holds for some keys the revision that they must have, None for "must not
        exist". Deleting a key that does not exist changes nothing.

        Raises:
            Outdated: a key is not as expected; nothing was changed.
            StorageFailed: it could not be written; nothing was changed.
        """
        ...

    def watch(self, prefix: str) -> Watch:
        """Changes to keys that begin with `prefix`, from now on.

        Watch first and list then, and nothing is missed.
        """
        ...

    async def close(self) -> None:
        """Let go of what is held. Every transaction that returned stays."""
        ...


def check_keys(puts: Mapping[str, bytes], deletes: Iterable[str]) -> None:
    """Refuse a transaction whose outcome would depend on the backend.

    Raises:
        InvalidRequest: a key is empty, or both written and deleted.
    """
    if "" in puts:
        raise InvalidRequest("a key of the store must not be empty")
    for key in deletes:
        if key in puts:
            raise InvalidRequest(f"key {key!r} is both written and deleted in one transaction")
