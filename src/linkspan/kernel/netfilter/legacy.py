"""Which tables iptables' legacy programs have made. Reading such a table would create it."""

from __future__ import annotations

import os

_NAMES = {"ip": "ip_tables_names", "ip6": "ip6_tables_names"}
PROGRAMS = {"ip": "iptables-legacy-save", "ip6": "ip6tables-legacy-save"}


def list_legacy_tables() -> dict[str, tuple[str, ...]]:
    """Names of tables by family ("ip", "ip6") in the calling thread's namespace."""
    found: dict[str, tuple[str, ...]] = {}
    for family, file_name in _NAMES.items():
        # Without the kernel's module for it there is no such file; root may read it.
        try:
            file = os.open(f"/proc/thread-self/net/{file_name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            names = os.read(file, 4096).decode().split()
        finally:
            os.close(file)
        if names:
            found[family] = tuple(sorted(names))
    return found
