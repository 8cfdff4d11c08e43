"""What an operator can set about the engine: folders, the default network, address pools."""

from __future__ import annotations

import os
import tomllib

import msgspec

from linkspan.errors import InvalidRequest

DEFAULT_FILE = "/etc/linkspan/linkspan.toml"
STORE_FILE = "state.db"
"""The store's name in the state folder."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one daemon. A TOML file states them by these names.

    `state_dir` holds what must survive a reboot, `run_dir` what need not (namespaces,
    bundles, the socket). Each belongs to one daemon.
    """

    state_dir: str = "/var/lib/linkspan"
    run_dir: str = "/run/linkspan"
    default_network: str = "bridge"
    """The network of a sandbox whose request names none."""
    default_pools: tuple[str, ...] = ("172.20.0.0/14:24", "10.160.0.0/12:24")
    """Where subnets come from that nobody chose: a prefix, and the length of what is cut
    from it. Whatever the host already has an address in or a route to is skipped."""
    port_range: tuple[int, int] = (49152, 65535)
    """Host ports that are given to published ports without one (RFC 6335, section 6:
    dynamic ports), both ends included."""

    resolv_conf: str = "/etc/resolv.conf"
    """Whom containers' questions for outside names are passed on to: the host's servers."""

    @property
    def namespace_dir(self) -> str:
        """Where the files of namespaces that we made are."""
        return os.path.join(self.run_dir, "netns")


def load_settings(path: str | None = None, **overrides: object) -> Settings:
    """Settings from a TOML file, with `overrides` over them (those that are None do not count).

    Without `path`, /etc/linkspan/linkspan.toml is read when it is there. Raises
    InvalidRequest when the file is missing or does not fit, with the place and the reason.
    """
    stated = _read(path or DEFAULT_FILE, required=path is not None)
    stated |= {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = msgspec.convert(stated, Settings)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"settings {path or DEFAULT_FILE}: {error}") from error
    first, last = settings.port_range
    if not 0 < first <= last < 65536:
        raise InvalidRequest(f"settings: port_range {first}-{last} is no range of ports")
    for name in ("state_dir", "run_dir", "resolv_conf"):
        if not os.path.isabs(getattr(settings, name)):
            raise InvalidRequest(
                f"settings: {name} is {getattr(settings, name)!r}; give an absolute path"
            )
    return settings


def _read(path: str, required: bool) -> dict[str, object]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        if required:
            raise InvalidRequest(f"settings: there is no file {path}") from None
        return {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise InvalidRequest(f"settings {path}: {error}") from error
