"""Limits over real sockets: the stand-ins tell of them, and the product keeps within them."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from audit.models import Hold, SyncJob
from integrations import limits, systems
from integrations.core.errors import Transient
from integrations.models import Budget, Connection
from integrations.sandbox.server import Fault
from tests.flows.world import Setup, World


def statuses(world: World, system: str) -> set[int]:
    return {call.status for call in world.stand_ins[system].calls}


def used(world: World, system: str, bucket: str) -> tuple[int, int]:
    return Budget.objects.values_list("used", "limit").get(connection=world.connection(system), bucket=bucket)


@pytest.mark.parametrize("tells_reset", [True, False])
def test_zendesks_minute_is_used_up_and_not_overdrawn(world: World, tells_reset: bool) -> None:
    customer = world.customer()
    world.zendesk.limit_per_minute, world.zendesk.tells_reset = 6, tells_reset
    invoices = [world.invoice(customer, f"INV-{number}", total="10.00") for number in range(1, 6)]
    for invoice in invoices:
        world.deliver("invoice.updated", invoice=invoice)
    world.settle_later(minutes=1.02, rounds=6)
    assert not SyncJob.objects.filter(state="pending").exists()
    assert len(records(world)) == 5
    refused = [call for call in world.zendesk.calls if call.status == 429]
    assert len(refused) <= (0 if tells_reset else 6), "without a time, one look a minute shows that it is too early"


def records(world: World) -> list[dict[str, dict[str, str]]]:
    objects = {row["key"]: row["records"] for row in world.zendesk.state()["custom_objects"]}
    found: list[dict[str, dict[str, str]]] = objects["wave_invoice"]
    return found


def test_the_customers_other_tools_are_seen_in_what_is_left(world: World) -> None:
    world.zendesk.limit_per_minute = 100
    world.synced()
    mine = used(world, "zendesk", "account")[0]
    world.zendesk.minute.used += 50  # somebody else's calls
    world.sync(world.invoice(world.customer("Other"), "INV-2"))
    assert used(world, "zendesk", "account")[0] > mine + 50


def test_a_live_event_finds_room_while_bulk_has_used_its_share(world: World) -> None:
    _, invoice = world.synced()
    world.zendesk.limit_per_minute = 50
    bulk = systems.client(world.connection("zendesk"), lane=limits.BULK)
    with pytest.raises(Transient) as full:
        for _ in range(50):
            bulk.send("GET", "/api/v2/organizations/count")
    assert (used(world, "zendesk", "account"), full.value.scope) == ((46, 50), "")
    world.wave.pay(invoice, "120.00")
    assert world.deliver("invoice.paid", invoice=invoice).status_code == 200
    world.settle()
    assert (used(world, "zendesk", "account"), Hold.objects.count()) == ((49, 50), 0)


def test_jiras_hourly_quota_holds_the_account_until_the_hour_is_over(world: World) -> None:
    world.jira.points_per_hour = 3
    customer = world.customer()
    for number in range(1, 4):
        world.deliver("invoice.updated", invoice=world.invoice(customer, f"INV-{number}"))
    assert [(hold.reason, (hold.until - world.jira.quota.ends) < timedelta(seconds=2)) for hold in Hold.objects.all() if hold.until] == [
        ("limit", True)
    ]
    assert 429 not in statuses(world, "jira")
    world.jira.points_per_hour = 100
    world.settle_later(minutes=61)
    assert len(world.jira.state()["issues"]) == 3


def test_jiras_bursts_slow_the_endpoint_and_not_the_account(make_world: Callable[[Setup], World]) -> None:
    world = make_world(Setup())
    world.jira.burst_per_second = 1
    customer = world.customer()
    for number in range(1, 4):
        world.deliver("invoice.updated", invoice=world.invoice(customer, f"INV-{number}"))
    world.settle_later(rounds=2)
    assert len(world.jira.state()["issues"]) == 3
    assert 429 not in statuses(world, "jira")
    assert not Hold.objects.filter(scope__startswith="connection").exists()


def test_a_delivery_waits_for_no_dead_vendor_again_and_the_other_destination_goes_on(world: World) -> None:
    customer = world.customer()
    world.jira.faults.append(Fault("status", times=0))
    for number in range(1, 9):
        assert world.deliver("invoice.updated", invoice=world.invoice(customer, f"INV-{number}")).status_code == 503
    world.settle()
    assert len([call for call in world.jira.calls if call.status == 503]) == 5
    assert len(records(world)) == 8
    answer = world.deliver("invoice.updated", invoice=world.invoice(customer, "INV-9"))
    assert (answer.status_code, 1 <= int(answer["Retry-After"]) <= 15) == (503, True)
    world.jira.faults.clear()
    world.settle_later(minutes=1, rounds=3)
    assert len(world.jira.state()["issues"]) == 9
    assert Connection.objects.values_list("failures", flat=True).get(pk=world.connection("jira").pk) == 0
