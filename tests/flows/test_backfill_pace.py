"""A backfill that must write one by one fills the vendor's minute, and live events do not notice it."""

import time_machine

from integrations.bench import pacing
from tests.flows.world import World


def test_it_uses_the_quota_up_keeps_every_retry_after_and_slows_no_live_event(world: World, still: time_machine.Traveller) -> None:
    paced = pacing.play(world, still.shift, invoices=105, limit=50, latency=0.4, events=3)
    assert paced.wrong == []
    assert (paced.refused, len(paced.busy)) == (1, 3), "another tool has used a minute up, and all events are written"
    assert world.zendesk.violations == []
    names = {row["key"]: len(row["records"]) for row in world.zendesk.state()["custom_objects"]}
    assert names["wave_invoice"] == 105 + 3 + pacing.IDLE
