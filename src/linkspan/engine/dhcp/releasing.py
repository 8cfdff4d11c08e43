"""What the rest of the engine needs of leases: to give them back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from linkspan.drivers.records import Endpoint


class Releasing(Protocol):
    """Gives leases back while the interface is still there."""

    async def release(self, endpoints: Iterable[Endpoint]) -> None:
        """Give the leases of endpoints back; the others of them are passed over."""
        ...


class NoLeases:
    """Nobody has one."""

    async def release(self, endpoints: Iterable[Endpoint]) -> None:
        """See Releasing."""
