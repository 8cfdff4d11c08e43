"""What `iptables-save` and `ip6tables-save` print, read into the rule language. Pure.

`read_saved` is the door. `words` takes a rule's line apart, `matches` and `targets` say what
its options mean, `tables` puts tables together. What is not understood becomes Opaque. The
meaning of options is that of iptables-extensions(8).
"""

from linkspan.kernel.netfilter.iptables.ipsets import IpSet
from linkspan.kernel.netfilter.iptables.tables import (
    SavedTable,
    apply_hooks,
    asked_elements,
    read_saved,
)

__all__ = ["IpSet", "SavedTable", "apply_hooks", "asked_elements", "read_saved"]
