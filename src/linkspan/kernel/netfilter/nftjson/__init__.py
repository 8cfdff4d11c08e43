"""nft's JSON (`nft -j list ruleset`) read into the rule language. Pure: values in, values out.

`read_ruleset` is the door. What an expression means is in `expressions`, what it is compared
with in `values`, tests and effects in `statements`, tables with their sets in `tables`. A
statement that is not understood becomes Opaque; it is never dropped. The format is that of
libnftables-json(5).
"""

from linkspan.kernel.netfilter.nftjson.tables import Ruleset, read_ruleset

__all__ = ["Ruleset", "read_ruleset"]
