"""Programs at links: XDP, filters of the traffic control, tcx. What they do is not read."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Iterator

from linkspan.dataplane.programs import Program
from linkspan.kernel import bpf
from linkspan.kernel.netlink import links, wire
from linkspan.kernel.netlink.seenlinks import SeenLink

Dump = Callable[[bytes], Iterable[tuple[int, bytes]]]

_GETQDISC, _GETTFILTER = 38, 46
_KIND, _OPTIONS = 1, 2
_BPF_NAME, _BPF_ID = 7, 11
_U32_SELECTOR = 5
_XDP_IDS = (4, 5, 6, 7)
"""IFLA_XDP_PROG_ID and those of a driver, of the stack and of hardware; often the same."""
_PARENTS = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_HOLDERS = {"clsact": ("ingress", "egress"), "ingress": ("ingress",)}
_LOSSY = frozenset(("netem", "plug", "blackhole"))
"""Queueing disciplines that lose packets on purpose; others only when there are too many."""

# struct tcmsg: family, link, handle, parent, priority and protocol
_info = struct.Struct("=BxxxiIII")


def read_xdp(seen: SeenLink, namespace: str) -> Iterator[Program]:
    """The XDP programs of a link that was read."""
    data = seen.attributes.get(links.XDP)
    if data is None:
        return
    found = wire.parse_attributes(data)
    ids = {wire.read_u32(found[type]) for type in _XDP_IDS if type in found} - {0}
    for id in sorted(ids):
        yield Program(
            namespace=namespace, link=seen.link.name, hook="xdp", kind="xdp", name=_name(id), id=id
        )


def read_filters(dump: Dump, namespace: str, name_of: Callable[[int], str]) -> Iterator[Program]:
    """The filters at the ingress and egress of links, and disciplines that lose packets.

    `dump` asks the namespace by netlink.
    """
    for _, payload in dump(wire.pack_message(_GETQDISC, 0, 0, _info.pack(0, 0, 0, 0, 0))):
        _, index, handle, _, _ = _info.unpack_from(payload)
        kind = wire.read_text(wire.parse_attributes(payload, _info.size).get(_KIND, b""))
        for hook in _HOLDERS.get(kind, ()):
            yield from _read_hook(dump, namespace, name_of(index), index, hook)
        if kind in _LOSSY:
            yield Program(
                namespace=namespace, link=name_of(index), hook="egress", kind="tc", name=kind,
                id=handle,
            )  # fmt: skip


def _read_hook(dump: Dump, namespace: str, link: str, index: int, hook: str) -> Iterator[Program]:
    request = wire.pack_message(_GETTFILTER, 0, 0, _info.pack(0, index, 0, _PARENTS[hook], 0))
    for _, payload in dump(request):
        _, _, handle, _, info = _info.unpack_from(payload)
        found = wire.parse_attributes(payload, _info.size)
        if not handle or _KIND not in found:
            continue  # the head of a list of filters
        kind = wire.read_text(found[_KIND])
        options = wire.parse_attributes(found.get(_OPTIONS, b""))
        if kind == "u32" and _U32_SELECTOR not in options:
            continue  # a table of filters
        name, id = f"{kind} pref {info >> 16}", handle
        if kind == "bpf" and _BPF_ID in options:
            id = wire.read_u32(options[_BPF_ID])
            name = wire.read_text(options.get(_BPF_NAME, b"")) or _name(id)
        yield Program(namespace=namespace, link=link, hook=hook, kind="tc", name=name, id=id)


def read_tcx(seen: Iterable[SeenLink], namespace: str) -> Iterator[Program]:
    """The programs that links of the calling thread's namespace have by tcx (Linux 6.6).

    Call `forget` before a look at a machine.
    """
    if not _has_classifiers():
        return
    for one in seen:
        for hook, number in (("ingress", bpf.TCX_INGRESS), ("egress", bpf.TCX_EGRESS)):
            for id in bpf.list_attached(one.index, number):
                yield Program(
                    namespace=namespace, link=one.link.name, hook=hook, kind="tcx",
                    name=_name(id), id=id,
                )  # fmt: skip


def describe_others() -> Iterator[str]:
    """What BPF does beside links, a sentence a type: nobody says for which packets."""
    loaded = _loaded()
    for type, name in bpf.TYPE_NAMES.items():
        names = sorted({one.name for one in loaded if one.type == type})
        if names:
            count = sum(one.type == type for one in loaded)
            yield (
                f"{count} BPF program{'s' if count > 1 else ''} of type {name} "
                f"({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}) may stop packets "
                "of some processes; what they do is not known"
            )


def forget() -> None:
    """Ask the kernel again which programs there are."""
    _loaded.cache_clear()


@functools.cache
def _loaded() -> tuple[bpf.LoadedProgram, ...]:
    return tuple(bpf.list_programs() or ())


def _has_classifiers() -> bool:
    return any(one.type == bpf.SCHED_CLS for one in _loaded())


def _name(id: int) -> str:
    for one in _loaded():
        if one.id == id:
            return one.name
    found = bpf.describe_program(id)
    return "" if found is None else found.name
