"""A refresh is refused while up to 200 events arrive: one blocked job per record, no vendor call; reconnected, all succeed."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db.models import QuerySet
from django.utils import timezone

from audit.models import Attempt, SyncJob
from audit.states import State
from integrations import tasks
from integrations.models import Connection, Credential
from tests.flows.test_documents import revoke
from tests.flows.world import Setup, World, key_of

SYSTEMS = ("wave", "zendesk", "jira")
RECORDS = 10
EVENTS = {"wave": 20, "zendesk": 4, "jira": 4}  # of each record


def refused_by_schedule(world: World, system: str) -> None:
    """Let the vendor take the grant back, and the schedule find out that the token cannot be renewed."""
    revoke(world, system)
    credential = Credential.objects.filter(connections=world.connection(system))
    credential.update(expires_at=timezone.now() + timedelta(minutes=4), changed_at=timezone.now() - timedelta(hours=1))
    tasks.refresh()


def unsettled() -> QuerySet[SyncJob]:
    return SyncJob.objects.exclude(state__in=[State.SUCCEEDED, State.SUPERSEDED])


def statuses() -> dict[str, str]:
    return dict(Connection.objects.values_list("system", "status"))


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_refused_refresh_costs_one_blocked_job_per_record_and_no_call_until_it_is_mended(
    make_world: Callable[[Setup], World], system: str
) -> None:
    setup = Setup(oauth=True)
    world = make_world(setup)
    customer = world.customer()
    invoices = [world.invoice(customer, f"INV-{number}", total="10.00") for number in range(1, RECORDS + 1)]
    refused_by_schedule(world, system)
    assert statuses() == {**dict.fromkeys(SYSTEMS, "ready"), system: "needs_reconnect"}

    with world.counting() as counted:
        answers = [world.deliver("invoice.viewed", invoice=invoice).status_code for _ in range(EVENTS[system]) for invoice in invoices]
        world.settle_later(rounds=2)
    assert (len(answers), set(answers)) == (RECORDS * EVENTS[system], {503})
    assert getattr(counted, system) == []
    stopped = {"wave": ("zendesk", "jira"), "zendesk": ("zendesk",), "jira": ("jira",)}[system]
    records = [("invoice", key_of(invoice)) for invoice in invoices]
    wanted = [(name, *record) for name in stopped for record in records]
    wanted += [("zendesk", "customer", key_of(customer))] if "zendesk" in stopped else []
    blocked = unsettled().filter(system__in=stopped)
    assert sorted(blocked.values_list("system", "kind", "key")) == sorted(wanted)
    assert set(blocked.values_list("state", flat=True)) == {State.BLOCKED}
    assert not Attempt.objects.filter(job__in=blocked).exists()

    world.reconnect(setup)
    assert statuses() == dict.fromkeys(SYSTEMS, "ready")
    for _ in range(6):
        world.settle_later()
    assert not unsettled().exists(), world.jobs()
    assert [scope for scope, _ in world.holds() if scope.startswith("connection")] == []
    shown = world.zendesk.state()
    records_held = {one["key"]: one["records"] for one in shown["custom_objects"]}["wave_invoice"]
    assert (len(shown["organizations"]), len(records_held), len(world.jira.state()["issues"])) == (1, RECORDS, RECORDS)
