"""Netlink, in two layers: the wire (`wire`, `socket`), and the typed objects of rtnetlink.

`wire` packs and unpacks bytes, `socket` sends them and names what was refused; `links`,
`addresses`, `routes`, `rules`, `neighbours` and `fdb` know what the bytes of one kind of
object mean. Nothing here decides anything.
"""
