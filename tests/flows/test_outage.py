"""A vendor that is down costs the others nothing, and when it is back what waited comes home as fast as it lets it."""

from datetime import timedelta

import time_machine

from audit.models import SyncJob
from integrations.bench import outage
from integrations.bench.pacing import story
from tests.flows.test_limits import records
from tests.flows.world import World

DUE, LIMIT = 24, 20


def test_what_waited_for_a_vendor_uses_its_quota_up_as_soon_as_it_is_back(world: World, still: time_machine.Traveller) -> None:
    invoices = [story(world, still.shift, f"INV-{number}", 1) for number in range(DUE)]
    outage.ask(world.route("zendesk"), invoices)
    with world.counting() as counted:
        outage.wait(world, still.shift, timedelta(hours=1))
    assert len(counted.zendesk) + len(counted.wave) <= 2 * DUE
    used, _ = outage.drain(world, still.shift, limit=LIMIT, latency=0.1)
    assert used >= outage.LEAST_USED
    assert len(records(world)) == DUE
    assert not SyncJob.objects.exclude(state__in=("succeeded", "superseded")).exists()


def test_a_silent_vendor_leaves_the_other_its_throughput(world: World, still: time_machine.Traveller) -> None:
    """One worker, twelve seconds of twenty at work: a silent call for each invoice would take all the rest."""
    done = outage.neighbour(world, still.shift, timedelta(minutes=8), silent=True, every=20)
    assert done >= outage.LEAST_DONE * 24
    assert not world.jira.state()["issues"]
