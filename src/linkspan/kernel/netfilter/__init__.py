"""nf_tables and connection tracking, spoken to by netlink (linux/netfilter/nf_tables.h).

`values` knows nftables' data types, `fields` and `expressions` compile the typed rule
language of dataplane/rules.py, `tables` and `elements` make the messages for whole tables
and for set elements, `batch` sends them as one transaction. `firewall` is the one place
that owns a socket and changes a ruleset; `monitor` hears of changes; `conntrack` reads and
clears connections; `foreign` looks at what other programs loaded. `text` prints the typed
language in nft's syntax.
"""
