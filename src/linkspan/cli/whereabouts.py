"""FROM and TO as people write them: which namespace, which address, which port."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from linkspan.analysis import View
from linkspan.analysis.addresses import is_link_local, is_loopback, to_number, to_text, version_of
from linkspan.analysis.place import OwnAddress, Place
from linkspan.analysis.segments import find_uplink
from linkspan.dataplane import HOST, Link, Veth
from linkspan.errors import InvalidRequest, LinkspanError, NotFound
from linkspan.inventory.records import Container

OUTSIDE = "outside"
RUNTIMES = (
    "linkspan", "docker", "podman", "containerd", "cri-o", "cni", "lxc", "machine", "netns",
    "process",
)  # fmt: skip
"""What may stand before a container's name, with a colon, where several have the name."""
_SHORTEST_ID = 3
_DOTTED = re.compile(r"\d+(\.\d+){3}")


class Whereabouts(NamedTuple):
    """One end of a flow as it was written: a name or an address, and a port."""

    text: str
    name: str | None = None
    address: str | None = None
    port: int | None = None

    @property
    def path(self) -> tuple[str, str] | None:
        """The name and file of a namespace that was named by its file or process."""
        kind, _, rest = (self.name or "").partition(":")
        if kind == "netns" and "/" in rest:
            return self.name or "", rest
        if kind == "pid" and rest.isdecimal():
            return self.name or "", f"/proc/{rest}/ns/net"
        return None


class Origin(NamedTuple):
    """Where a flow begins. With `link` it comes in by that one, from outside."""

    namespace: str
    source: str | None = None
    link: str | None = None


def parse(text: str) -> Whereabouts:
    """NAME, RUNTIME:NAME, host, outside, netns:PATH, pid:N or an address, each with :PORT or
    without.

    Raises InvalidRequest.
    """
    if text.startswith("["):
        address, closed, rest = text[1:].partition("]")
        if not closed or not _is_address(address) or (rest and not rest.startswith(":")):
            raise InvalidRequest(f"{text!r} is no address: write IPv6 with a port as [::1]:80")
        return Whereabouts(text, address=address, port=_port(rest[1:], text) if rest else None)
    if _is_address(text):
        return Whereabouts(text, address=str(ipaddress.ip_address(text)))
    if _DOTTED.fullmatch(text.partition(":")[0]) and not _is_address(text.partition(":")[0]):
        raise InvalidRequest(f"{text!r} is no address: each part of an IPv4 one is 0 to 255")
    head, colon, last = text.rpartition(":")
    of_runtime = head in RUNTIMES and not last.isdecimal()
    if not colon or of_runtime or head in ("netns", "pid") or "/" in last:
        return Whereabouts(text, name=text)
    port = _port(last, text)
    if _is_address(head):
        return Whereabouts(text, address=head, port=port)
    return Whereabouts(text, name=head, port=port)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _port(text: str, whole: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise InvalidRequest(f"{whole!r}: {text!r} is no port; ports are numbers from 1 to 65535")
    return int(text)


def resolve(
    where: Whereabouts, containers: Sequence[Container], unseen: Sequence[str] = ()
) -> Whereabouts:
    """The same end by the name of its namespace in the plane. Raises as `find_container`."""
    if where.name is None or where.name == OUTSIDE:
        return where
    return where._replace(name=find_container(where.name, containers, unseen).namespace)


def find_container(
    word: str, containers: Sequence[Container], unseen: Sequence[str] = ()
) -> Container:
    """The container or namespace that a word means.

    Its name, RUNTIME:NAME, id or an alias, else the unique beginning of an id. `unseen` is
    what could not be seen of the host. Raises NotFound, with names that are near;
    InvalidRequest where several have the name; LinkspanError where no name is near and not
    all could be seen.
    """
    tests: tuple[Callable[[Container], bool], ...] = (
        lambda one: word == one.namespace,
        lambda one: word in (one.name, f"{one.runtime}:{one.name}"),
        lambda one: word == one.id or word in one.aliases or word == f"pid:{one.pid}",
        lambda one: len(word) >= _SHORTEST_ID and one.id.startswith(word),
    )
    for test in tests:
        found = [one for one in containers if test(one)]
        if len({one.namespace for one in found}) > 1:
            which = sorted({f"{one.runtime}:{one.name}" for one in found})
            if len(which) == 1:
                which = sorted(one.id or one.namespace for one in found)
            raise InvalidRequest(f"{word!r} may mean {_listed(which, 'or')}: write one of these")
        if found:
            return next((one for one in found if one.name == word), found[0])
    names = {word for one in containers for word in (one.namespace, one.name, *one.aliases)}
    near = difflib.get_close_matches(word, sorted(names), 3, 0.5)
    hint = f"; did you mean {_listed(near, 'or')}?" if near else ""
    message = f"there is no container or namespace {word!r}{hint}"
    if unseen and not near:
        raise LinkspanError(f"{message}; not all could be seen: {'; '.join(unseen)}")
    raise NotFound(message)


def _listed(words: Sequence[str], last: str) -> str:
    return f" {last} ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def find_origin(view: View, where: Whereabouts, version: int, link: str | None) -> Origin:
    """Where packets begin. Raises NotFound."""
    if where.name == OUTSIDE:
        link = link or uplink_of(view)
        return Origin(HOST, _stranger_address(view, link, version), link)
    if where.name is not None:
        return Origin(_observed(where, view))
    assert where.address is not None
    owners = _nearest(view, view.owners.get((version_of(where.address), to_number(where.address))))
    if owners:
        return Origin(owners[0], where.address)
    return Origin(HOST, where.address, link or uplink_of(view))


def _nearest(view: View, owners: Sequence[str] | None) -> Sequence[str]:
    """Of the namespaces that have an address, those that cables join to the host; else all."""
    if owners is None or len(owners) < 2:
        return owners or ()
    neighbours: dict[str, set[str]] = {}
    for link in view.plane.of(Link):
        kind = link.kind
        far = kind.peer_namespace if isinstance(kind, Veth) else None
        far = far or getattr(kind, "parent_namespace", None)
        if far is not None:
            neighbours.setdefault(link.namespace, set()).add(far)
            neighbours.setdefault(far, set()).add(link.namespace)
    near, waiting = {HOST}, [HOST]
    while waiting:
        more = neighbours.get(waiting.pop(), set()) - near
        near |= more
        waiting += more
    return [one for one in owners if one in near] or owners


def _observed(where: Whereabouts, view: View) -> str:
    """The namespace of an end that was resolved; it may have died while the host was read."""
    assert where.name is not None
    if where.name not in view.namespaces:
        raise LinkspanError(
            f"{where.text}: its namespace could not be read: it is gone by now, or needs root"
        )
    return where.name


def uplink_of(view: View) -> str:
    """The host's link to the outside. Raises NotFound where it has none."""
    found = find_uplink(view)
    if found is None:
        raise NotFound("this host has no link to the outside; name one with --link")
    return found


def _stranger_address(view: View, link: str, version: int) -> str:
    """An address of the segment that nobody observed has."""
    place = view.place(HOST)
    links = (link, place.bridge_of(link) or link)
    for address in place.addresses:
        if address.link in links and address.version == version:
            first = address.network.network
            for number in range(address.network.last - 1, first, -1):
                if (version, number) not in view.owners:
                    return to_text(number, version)
    return "203.0.113.99" if version == 4 else "2001:db8::99"  # RFC 5737, RFC 3849


def find_target(view: View, where: Whereabouts, origin: str | None) -> str:
    """The address that TO means, seen from a namespace: one on a network of both, else the
    first. Raises NotFound.
    """
    if where.address is not None:
        return where.address
    if where.name == OUTSIDE:
        return _stranger_address(view, uplink_of(view), 4)
    namespace = _observed(where, view)
    place = view.place(namespace)
    reachable = [one for one in place.addresses if _is_global(one)]
    if not reachable:
        if namespace == origin:
            return "127.0.0.1"
        raise NotFound(f"{where.name} has no address to send to")
    near = [] if origin in (None, namespace) else _shared(view.place(origin or ""), reachable)
    best = sorted(near or reachable, key=lambda one: (one.version, _on_cable(place, one)))[0]
    return to_text(best.number, best.version)


def _on_cable(place: Place, address: OwnAddress) -> bool:
    """The host's own networks come behind its uplink's, and are still better than nothing."""
    return place.name == HOST and address.link in place.ports


def _shared(place: Place, candidates: list[OwnAddress]) -> list[OwnAddress]:
    networks = {one.network for one in place.addresses if _is_global(one)}
    return [one for one in candidates if one.network in networks]


def _is_global(address: OwnAddress) -> bool:
    number, version = address.number, address.version
    return not is_loopback(number, version) and not (version == 6 and is_link_local(number, 6))
