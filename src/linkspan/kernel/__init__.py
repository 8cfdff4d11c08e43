"""The network of this host as the kernel keeps it: observe it, and make it as described.

`observe` reads namespaces into a DataPlane, `apply.Kernel` carries out changes; both speak
through `netlink/` (links, addresses, routes, ...) and `netfilter/` (tables, elements,
connections). `namespaces`, `sysctl`, `sockets`, `arp`, `monitor` and `features` are what
else the kernel is asked for. Nothing here decides what a network should look like.
"""
