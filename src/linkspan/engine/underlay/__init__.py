"""Networks on a parent (macvlan, ipvlan): what the engine does only for those.

drafting.py  whether an interface of the host can carry a network
subnets.py   its subnets, which are the segment's
trials.py    what only the kernel can say
parents.py   the interfaces that networks are on, as they are now
probing.py   addresses tried before they are used
"""
