"""nf_tables and connection tracking, spoken to by netlink (linux/netfilter/nf_tables.h).

`values` knows nftables' data types; `fields`, `matches` and `expressions` compile the typed
rule language of dataplane/rules.py with `encode`; `tables` and `elements` make the messages
for whole tables and for set elements, `transaction` puts operations in a row of them, `batch`
sends it as one. `observed` reads, `verify` compares with a description. `firewall` is the one
place that owns a socket and changes a ruleset; `monitor` hears of changes; `conntrack` reads
and forgets flows; `foreign` and `obstacles` look at what other programs loaded.
dataplane/ruletext.py prints the same language in nft's syntax.
"""
