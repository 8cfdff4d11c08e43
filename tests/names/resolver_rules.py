"""What must hold of the resolver's answers to any bytes at all."""

from __future__ import annotations

import dns.message

from linkspan.names import wire
from names.stage import BACK, SHOP, Stage, join, published, sandbox

STAGES = {
    "open": Stage(
        sandbox("web", join(SHOP, 3), ports=(published(80),)),
        *(sandbox(f"w{n}", join(SHOP, n, "workers")) for n in range(10, 90)),
    ),
    "closed": Stage(sandbox("safe", join(BACK, 2))),
}


def check(stage: Stage, data: bytes, stream: bool) -> None:
    """What must hold of any answer to any bytes."""
    stage.listener.tick()
    stage.outside.asked.clear()
    sent = stage.exchange(data, stream)
    assert len(sent) <= 1
    if len(data) < 12 or data[2] & 0x80:
        assert sent == []
        assert not stage.outside.asked
        return
    for answer in sent:
        assert answer[:2] == data[:2]
        assert answer[2] & 0x80
        assert answer[2] & 0x79 == data[2] & 0x79
        if not stream:
            assert len(answer) <= max(512, wire.LARGEST_UDP)
        if answer[3] & 15 in (wire.FORMERR, wire.NOTIMP, wire.REFUSED) or not answer[7]:
            # Refusals are no larger than the question, but for an OPT record with a reason.
            assert len(answer) <= len(data) + 6
        dns.message.from_wire(answer)
    if sent:
        return
    assert stage.outside.asked
    (question, _, _), *_ = stage.outside.asked
    assert question.wire == data
    stage.outside.deliver.pop()(None)  # nobody waits for ever
