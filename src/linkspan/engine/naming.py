"""What the engine needs of whoever answers containers' questions for names, and no more.

The daemon gives it the names process (names/client.py); an engine without one gives no names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from linkspan.drivers.records import Network, Sandbox


class Naming(Protocol):
    """Names for sandboxes. What it is told is in force when the call returns.

    Trouble with names stops nobody's packets: it is logged, and given back as text by the ids
    of the sandboxes that cannot be answered.
    """

    async def replace(
        self, networks: Iterable[Network], sandboxes: Iterable[Sandbox]
    ) -> dict[str, str]:
        """These are all; put right in their namespaces what others changed."""
        ...

    async def change(
        self, before: Sandbox | None, after: Sandbox | None, networks: Mapping[str, Network]
    ) -> dict[str, str]:
        """A sandbox is another now; None is one that is not there."""
        ...

    async def put_network(self, network: Network) -> None:
        """A network was made."""
        ...

    async def drop_network(self, id: str) -> None:
        """A network is gone."""
        ...

    def resolv_conf(self, sandbox: Sandbox, networks: Mapping[str, Network]) -> str | None:
        """The text of a container's /etc/resolv.conf; None when nobody answers it here."""
        ...

    async def close(self) -> None:
        """Let go; names go on."""
        ...

    async def stop(self) -> None:
        """No names any more, and nothing left of them."""
        ...


class NoNames:
    """Nobody has a name."""

    async def replace(
        self, networks: Iterable[Network], sandboxes: Iterable[Sandbox]
    ) -> dict[str, str]:
        """See Naming."""
        return {}

    async def change(
        self, before: Sandbox | None, after: Sandbox | None, networks: Mapping[str, Network]
    ) -> dict[str, str]:
        """See Naming."""
        return {}

    async def put_network(self, network: Network) -> None:
        """See Naming."""

    async def drop_network(self, id: str) -> None:
        """See Naming."""

    def resolv_conf(self, sandbox: Sandbox, networks: Mapping[str, Network]) -> str | None:
        """See Naming."""
        return None

    async def close(self) -> None:
        """See Naming."""

    async def stop(self) -> None:
        """See Naming."""
