"""Address management: which subnet a network gets, and which address an endpoint.

Pure: nothing here reads the host or the store; what is taken is given as values.

subnets.py     one subnet's prefix, gateway, range and reservations, checked
pools.py       subnets that nobody chose, from the default pools
completion.py  all subnets of a network
leases.py      the addresses of one subnet
intervals.py   a set of whole numbers with few gaps, of any size
"""

from linkspan.engine.ipam.completion import SubnetWish, complete_subnets
from linkspan.engine.ipam.leases import Leases, address_from_mac, cursor_key, lease_key
from linkspan.engine.ipam.pools import Pool, choose_subnet, parse_pool, unique_local_pool
from linkspan.engine.ipam.subnets import (
    Occupied,
    complete_subnet,
    find_overlap,
    parse_address,
    parse_subnet,
    refuse_overlap,
)

__all__ = [
    "Leases",
    "Occupied",
    "Pool",
    "SubnetWish",
    "address_from_mac",
    "choose_subnet",
    "complete_subnet",
    "complete_subnets",
    "cursor_key",
    "find_overlap",
    "lease_key",
    "parse_address",
    "parse_pool",
    "parse_subnet",
    "refuse_overlap",
    "unique_local_pool",
]
