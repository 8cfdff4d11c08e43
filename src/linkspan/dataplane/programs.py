"""Programs that see packets at a link before or after everything else. Opaque: what they do
is not known.
"""

from __future__ import annotations

from typing import ClassVar

from linkspan.dataplane.objects import Key, Object


class Program(Object, frozen=True, kw_only=True):
    """Something attached to a link that may drop, change or redirect its packets.

    `hook` is "xdp" (comes in, before all else), "ingress" or "egress"; `kind` what is there:
    "xdp", "tcx" (both BPF), or "tc" (a filter of the traffic control). `name` is what `ip`,
    `bpftool` or `tc` call it; `id` the number of a BPF program or the handle of a filter.
    """

    order: ClassVar[int] = 12
    link: str
    hook: str
    kind: str
    name: str = ""
    id: int = 0

    @property
    def key(self) -> Key:
        return ("program", self.namespace, self.link, self.hook, self.kind, self.name, self.id)

    def __str__(self) -> str:
        named = f" {self.name}" if self.name else ""
        return f"the {self.kind} program{named} at {self.hook} of {self.link}"
