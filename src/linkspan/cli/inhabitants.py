"""What a namespace is called in tables: by the containers that live in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from linkspan.inventory.records import HostView

MOST = 3
"""More containers of one namespace are counted."""


def name_namespaces(host: HostView) -> dict[str, str]:
    """Names for people by namespace: "web", "web+side" where two live in it, "host" for the
    host, whoever else uses its network.
    """
    from linkspan.dataplane import HOST

    held: dict[str, list[str]] = {}
    for one in host.containers:
        names = held.setdefault(one.namespace, [])
        if one.name not in names:
            names.append(one.name)
    shown = {}
    for namespace, names in held.items():
        names.sort(key=lambda name: name != namespace)
        more = [f"{len(names) - MOST + 1} more"] if len(names) > MOST else []
        shown[namespace] = "+".join([*names[: MOST - 1], *more] if more else names)
    return {**shown, **({HOST: HOST} if HOST in held else {})}
