"""What backfill's flows start from: a history from before anybody listened, a clock that waits for nobody, and runs to the end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from audit.models import SyncJob
from integrations import backfill, reconcile, report
from integrations.models import Binding, Sweep
from tests.flows.world import World

FAR = float("inf")
SET_UP = (
    "POST token",
    "GET organization_fields",
    "GET custom_objects",
    "GET fields",
    "GET configuration",
    "GET statuses",
)  # asked once a day


@contextmanager
def unhurried(world: World) -> Iterator[None]:
    """Let whoever sleeps find the time gone by: the clock moves, nobody waits."""
    monotonic, slept = time.monotonic, [0.0]

    def sleep(seconds: float) -> None:
        slept[0] += seconds
        world.clock.shift(timedelta(seconds=seconds))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(time, "sleep", sleep)
        patched.setattr(time, "monotonic", lambda: monotonic() + slept[0])
        yield


def story(world: World, *, customers: int = 3, invoices: int = 4, paid: int = 0) -> None:
    """Let there be customers with invoices, so many of them partly paid, from before anybody listened."""
    for number in range(customers):
        customer = world.customer(f"Customer {number}", email=f"c{number}@example.com")
        for count in range(invoices):
            invoice = world.invoice(customer, f"INV-{number}-{count}", sent=count < paid)
            if count < paid:
                world.wave.pay(invoice, "20.00")
    world.clock.shift(timedelta(hours=1))


def begun(world: World, system: str, **more: Any) -> Sweep:
    """Begin a backfill of the route to a system."""
    sweep, new = backfill.begin(world.route(system), started_by="test", **more)
    assert new
    return sweep


def turn(world: World, sweep: Sweep, *, deadline: float = FAR) -> Sweep:
    """Let a worker take its turn as soon as it is due."""
    world.clock.shift(max(timedelta(0), sweep.due_at - timezone.now()) + timedelta(seconds=0.01))
    assert backfill.carry_on(sweep, deadline=deadline)
    sweep.refresh_from_db()
    return sweep


def to_the_end(world: World, sweep: Sweep, *, turns: int = 50) -> Sweep:
    """Let workers carry it on until it is done."""
    for _ in range(turns):
        if sweep.state != "running":
            break
        turn(world, sweep)
    assert (sweep.state, sweep.problem) == ("done", "")
    return sweep


def bring(world: World, system: str, **more: Any) -> Sweep:
    """Run a backfill of the route to a system to its end."""
    return to_the_end(world, begun(world, system, **more))


def settled(world: World, *, rounds: int = 8) -> None:
    """Let what is left to the ordinary way be brought: nothing is left running, nothing half made."""
    for _ in range(rounds):
        world.settle_later(minutes=2)
        if not SyncJob.objects.filter(state__in=("pending", "running")).exists():
            break
    assert not SyncJob.objects.exclude(state__in=("succeeded", "superseded")).exclude(resolved_by__isnull=False).exists()
    assert not Binding.objects.exclude(state="bound").exists()


def agrees(world: World) -> None:
    """Let a reconcile prove that everything is everywhere as it should be."""
    sweep, _ = reconcile.begin(world.connection("wave"), started_by="test")
    reconcile.carry_on(sweep, deadline=FAR)
    sweep.refresh_from_db()
    told = report.report(sweep)
    assert (told["state"], told["findings"], told["money"]) == ("done", [], [])


def whole(world: World) -> None:
    """Let the workers finish, and a reconcile prove that nothing is missing and nothing differs."""
    settled(world)
    agrees(world)
    assert world.zendesk.state()["violations"] == world.jira.violations == []


def counts(world: World) -> dict[str, int]:
    """Return how many objects there are at the destinations."""
    shown = world.zendesk.state()
    held = {row["key"]: len(row["records"]) for row in shown["custom_objects"]}
    return {"organizations": len(shown["organizations"]), **held, "issues": len(world.jira.state()["issues"])}
