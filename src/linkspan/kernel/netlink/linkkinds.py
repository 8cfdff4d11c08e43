"""What only one kind of link has, on the wire (IFLA_INFO_DATA; linux/if_link.h)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from linkspan.dataplane.links import (
    Bridge,
    Dummy,
    Ipvlan,
    LinkKind,
    Macvlan,
    Other,
    Tun,
    Veth,
    Vlan,
    Vxlan,
)
from linkspan.errors import InvalidRequest
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.text import address_bytes, address_text

_NAMES: dict[type[object], str] = {
    Bridge: "bridge",
    Veth: "veth",
    Macvlan: "macvlan",
    Ipvlan: "ipvlan",
    Vlan: "vlan",
    Vxlan: "vxlan",
    Tun: "tun",
    Dummy: "dummy",
}

_MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}
_IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
_IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}

_FORWARD_DELAY = 1
_AGEING_TIME = 4
_STP_STATE = 5
_VLAN_FILTERING = 7
_MULTICAST_SNOOPING = 23
_NF_CALL_IPTABLES = 36
_NF_CALL_IP6TABLES = 37
_TICKS = 100  # USER_HZ: a bridge's times are in hundredths of a second

_VXLAN_ID = 1
_VXLAN_GROUP = 2
_VXLAN_LINK = 3
_VXLAN_LOCAL = 4
_VXLAN_LEARNING = 7
_VXLAN_PORT = 15
_VXLAN_GROUP6 = 16
_VXLAN_LOCAL6 = 17

_TUN_TYPE = 3
_IFF_TAP = 2


def name_of(kind: LinkKind) -> str:
    """The kernel's name of a kind. Raises InvalidRequest for kinds that cannot be made."""
    if isinstance(kind, Other):
        return kind.name
    name = _NAMES.get(type(kind))
    if name is None:
        raise InvalidRequest(f"a {type(kind).__name__.lower()} link cannot be made")
    return name


def encode(kind: LinkKind, index_of: Callable[[str], int]) -> bytes:
    """The attributes of a kind that is stated, without the surrounding IFLA_INFO_DATA."""
    match kind:
        case Bridge():
            return _bridge(kind, None)
        case Macvlan():
            return _mode(kind.mode, _MACVLAN_MODES, 1, wire.attribute_u32, "macvlan mode")
        case Ipvlan():
            return _mode(kind.mode, _IPVLAN_MODES, 1, wire.attribute_u16, "ipvlan mode") + _mode(
                kind.flag, _IPVLAN_FLAGS, 2, wire.attribute_u16, "ipvlan flag"
            )
        case Vlan():
            return b"" if kind.vlan is None else wire.attribute_u16(1, kind.vlan)
        case Vxlan():
            return _vxlan(kind, index_of)
        case _:
            return b""


def encode_change(old: LinkKind | None, new: LinkKind) -> bytes:
    """The attributes that `new` states otherwise than `old`; only a bridge has any."""
    if isinstance(new, Bridge):
        return _bridge(new, old if isinstance(old, Bridge) else None)
    return b""


def decode(name: str, data: Mapping[int, bytes]) -> LinkKind:
    """A kind from the kernel's name for it and its attributes.

    Peers and parents are links: their names are filled in by whoever read all links.
    """
    match name:
        case "bridge":
            return _decode_bridge(data)
        case "veth":
            return Veth()
        case "macvlan":
            return Macvlan(mode=_name_in(_MACVLAN_MODES, data, 1))
        case "ipvlan":
            return Ipvlan(
                mode=_name_in(_IPVLAN_MODES, data, 1), flag=_name_in(_IPVLAN_FLAGS, data, 2)
            )
        case "vlan":
            return Vlan(vlan=wire.read_u16(data[1]) if 1 in data else None)
        case "vxlan":
            return _decode_vxlan(data)
        case "tun":
            type = data.get(_TUN_TYPE)
            return Tun(tap=type[0] == _IFF_TAP if type else None)
        case "dummy":
            return Dummy()
        case _:
            return Other(name=name)


def parent_of(kind: LinkKind, data: Mapping[int, bytes]) -> int:
    """The index of the link that a vxlan's packets leave by; 0 for none, or another kind."""
    if isinstance(kind, Vxlan) and _VXLAN_LINK in data:
        return wire.read_u32(data[_VXLAN_LINK])
    return 0


def _bridge(new: Bridge, old: Bridge | None) -> bytes:
    def changed(field: str) -> int | None:
        value: int | None = getattr(new, field)
        if value is None or (old is not None and getattr(old, field) == value):
            return None
        return value

    parts = []
    for field, type in (("forward_delay", _FORWARD_DELAY), ("ageing", _AGEING_TIME)):
        if (seconds := changed(field)) is not None:
            parts.append(wire.attribute_u32(type, seconds * _TICKS))
    if (stp := changed("stp")) is not None:
        parts.append(wire.attribute_u32(_STP_STATE, int(stp)))
    for field, type in _BRIDGE_FLAGS:
        if (flag := changed(field)) is not None:
            parts.append(wire.attribute_u8(type, int(flag)))
    return b"".join(parts)


_BRIDGE_FLAGS = (
    ("vlan_filtering", _VLAN_FILTERING),
    ("multicast_snooping", _MULTICAST_SNOOPING),
    ("netfilter_ip", _NF_CALL_IPTABLES),
    ("netfilter_ip6", _NF_CALL_IP6TABLES),
)


def _decode_bridge(data: Mapping[int, bytes]) -> Bridge:
    flags = {name: bool(data[type][0]) for name, type in _BRIDGE_FLAGS if type in data}
    return Bridge(
        stp=bool(wire.read_u32(data[_STP_STATE])) if _STP_STATE in data else None,
        forward_delay=_seconds(data.get(_FORWARD_DELAY)),
        ageing=_seconds(data.get(_AGEING_TIME)),
        **flags,
    )


def _seconds(ticks: bytes | None) -> int | None:
    return None if ticks is None else round(wire.read_u32(ticks) / _TICKS)


def _vxlan(kind: Vxlan, index_of: Callable[[str], int]) -> bytes:
    parts = []
    if kind.vni is not None:
        parts.append(wire.attribute_u32(_VXLAN_ID, kind.vni))
    for address, type, type6 in (
        (kind.remote, _VXLAN_GROUP, _VXLAN_GROUP6),
        (kind.local, _VXLAN_LOCAL, _VXLAN_LOCAL6),
    ):
        if address is not None:
            data = address_bytes(address)
            parts.append(wire.attribute(type if len(data) == 4 else type6, data))
    if kind.parent is not None:
        parts.append(wire.attribute_u32(_VXLAN_LINK, index_of(kind.parent)))
    if kind.port is not None:
        parts.append(wire.attribute_u16_big(_VXLAN_PORT, kind.port))
    if kind.learning is not None:
        parts.append(wire.attribute_u8(_VXLAN_LEARNING, kind.learning))
    return b"".join(parts)


def _decode_vxlan(data: Mapping[int, bytes]) -> Vxlan:
    remote = data.get(_VXLAN_GROUP) or data.get(_VXLAN_GROUP6)
    local = data.get(_VXLAN_LOCAL) or data.get(_VXLAN_LOCAL6)
    port, learning = data.get(_VXLAN_PORT), data.get(_VXLAN_LEARNING)
    return Vxlan(
        vni=wire.read_u32(data[_VXLAN_ID]) if _VXLAN_ID in data else None,
        remote=address_text(remote) if remote else None,
        local=address_text(local) if local else None,
        port=int.from_bytes(port, "big") if port else None,
        learning=bool(learning[0]) if learning else None,
    )


def _mode(
    value: str | None,
    known: Mapping[str, int],
    type: int,
    pack: Callable[[int, int], bytes],
    what: str,
) -> bytes:
    if value is None:
        return b""
    if value not in known:
        raise InvalidRequest(f'"{value}" is no {what}: use one of {", ".join(known)}')
    return pack(type, known[value])


def _name_in(known: Mapping[str, int], data: Mapping[int, bytes], type: int) -> str | None:
    if type not in data:
        return None
    number = int.from_bytes(data[type], wire.ORDER)
    return next((name for name, value in known.items() if value == number), str(number))
