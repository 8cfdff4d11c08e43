"""Whether this process may change networks."""

from __future__ import annotations

import os

from linkspan.errors import PermissionRefused


def check_rights(what: str) -> None:
    """Refuse a process that could not make interfaces and firewall rules.

    Raises:
        PermissionRefused: it is not root; `what` is what it was about to do.
    """
    if os.geteuid() != 0:
        raise PermissionRefused(
            f"{what} changes interfaces and firewall rules and needs root: use sudo, or to try it "
            "as yourself a namespace of your own: `unshare -rmn`"
        )
