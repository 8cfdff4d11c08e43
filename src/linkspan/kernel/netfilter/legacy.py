"""Which tables iptables' legacy programs have made. Reading such a table would create it."""

from __future__ import annotations

import contextlib

_NAMES = {"ip": "ip_tables_names", "ip6": "ip6_tables_names"}
PROGRAMS = {"ip": "iptables-legacy-save", "ip6": "ip6tables-legacy-save"}


def list_legacy_tables() -> dict[str, tuple[str, ...]]:
    """Names of tables by family ("ip", "ip6") in the calling thread's namespace."""
    found: dict[str, tuple[str, ...]] = {}
    for family, file_name in _NAMES.items():
        # Without the kernel's module for it there is no such file; root may read it.
        with contextlib.suppress(OSError), open(f"/proc/thread-self/net/{file_name}") as file:
            names = file.read().split()
            if names:
                found[family] = tuple(sorted(names))
    return found
