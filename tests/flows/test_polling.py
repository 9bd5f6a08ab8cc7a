"""What reaches the destinations though no webhook ever comes."""

from datetime import timedelta
from typing import Any

from pytest_django import Settings

from audit.models import SyncJob
from integrations import tasks
from integrations.models import Delivery, Watermark
from integrations.sandbox.server import Fault
from tests.flows.world import NO_WRITES, NOW, WEBHOOK_SECRET, Counted, World, key_of


def poll(world: World, *, minutes: float = 3) -> Counted:
    """Let time pass, poll as the schedule does, and run what came of it; return the calls."""
    world.clock.shift(timedelta(minutes=minutes))
    with world.counting() as counted:
        tasks.poll()
        world.settle()
    return counted


def organization(world: World) -> dict[str, Any]:
    """Return the fields of the only organization."""
    [row] = world.zendesk.state()["organizations"]
    return {"name": row["name"], **row["organization_fields"]}


def summaries(world: World) -> list[str]:
    """Return the issues' summaries."""
    return [issue["summary"] for issue in world.jira.state()["issues"].values()]


def records(world: World) -> dict[str, str]:
    """Return the status of each linked invoice record by its number."""
    [found] = [entry for entry in world.zendesk.state()["custom_objects"] if entry["key"] == "wave_invoice"]
    return {row["name"]: row["custom_object_fields"]["status"] for row in found["records"]}


def test_a_customer_their_draft_and_its_edit_reach_both_without_any_webhook(world: World) -> None:
    customer = world.customer()
    draft = world.invoice(customer, sent=False)
    poll(world)
    assert organization(world)["name"] == "Northwind Bakery"
    assert summaries(world) == ["INV-1 Northwind Bakery: 120.00 USD"]
    world.wave.change_invoice(draft, total="150.00")
    poll(world)
    assert summaries(world) == ["INV-1 Northwind Bakery: 150.00 USD"]
    assert (Delivery.objects.count(), {job.state for job in SyncJob.objects.all()}) == (0, {"succeeded"})


def test_a_customers_new_phone_reaches_zendesk_without_any_webhook(world: World) -> None:
    customer, _ = world.synced()
    world.wave.change_customer(customer, phone="+1 416 555 0199")
    counted = poll(world)
    assert organization(world)["wave_phone"] == "+1 416 555 0199"
    assert (counted.jira, counted.wave) == ([], ["POST read"] * 3)


def test_nothing_changed_costs_two_reads_and_makes_no_job(world: World) -> None:
    world.synced()
    jobs = SyncJob.objects.count()
    for _ in range(3):
        assert poll(world) == Counted(["POST read", "POST read"], [], [])
    assert SyncJob.objects.count() == jobs
    assert list(Watermark.objects.values_list("problem", "asked")) == [("", {}), ("", {})]


def test_an_account_without_a_configured_business_costs_one_read_more(world: World) -> None:
    world.synced()
    poll(world)
    source = world.connection("wave")
    source.settings = {name: value for name, value in source.settings.items() if name != "business_id"}
    source.save()
    assert poll(world) == Counted(["POST read"] * 3, [], [])


def test_what_a_webhook_brought_unchanged_is_not_asked_for_again(world: World) -> None:
    _, invoice = world.synced()
    world.wave.view(invoice)
    world.sync(invoice)
    world.wave.view(invoice)
    world.sync(invoice)
    jobs = SyncJob.objects.count()
    poll(world)
    assert SyncJob.objects.count() == jobs


def test_a_renamed_customer_reaches_the_issues_of_their_open_invoices(world: World) -> None:
    customer, invoice = world.synced()
    paid = world.invoice(customer, "INV-2", total="80.00")
    world.wave.pay(paid, "80.00")
    world.sync(paid)
    world.wave.change_customer(customer, name="Northwind & Daughters")
    poll(world)
    assert organization(world)["name"] == "Northwind & Daughters"
    assert summaries(world) == ["INV-1 Northwind & Daughters: 120.00 USD", "INV-2 Northwind Bakery: 80.00 USD"]
    assert [job.key for job in SyncJob.objects.filter(created_at__gt=NOW + timedelta(minutes=2), system="jira")] == [key_of(invoice)]
    assert poll(world).writes == NO_WRITES


def test_total_loss_of_webhooks_during_an_outage_is_made_up_for(world: World) -> None:
    customer, invoice = world.synced()
    world.wave.change_customer(customer, email="new@northwind.example")
    world.wave.pay(invoice, "120.00")
    world.wave.faults.append(Fault("status", path="/graphql", status=503))
    poll(world)
    assert Watermark.objects.exclude(problem="").exists()
    poll(world, minutes=1)
    assert (organization(world)["wave_email"], records(world)) == ("new@northwind.example", {"INV-1": "PAID"})


def test_more_customers_than_a_page_holds_all_arrive(world: World) -> None:
    for number in range(105):
        world.customer(f"Customer {number}", email=f"{number}@example.com")
    world.clock.shift(timedelta(minutes=3))
    tasks.poll()
    assert SyncJob.objects.filter(kind="customer").count() == 105


def test_a_stale_but_signed_delivery_brings_the_poll_forward(world: World, settings: Settings) -> None:
    settings.POLL_SECONDS = 3600
    customer, _ = world.synced()
    poll(world)
    world.wave.change_customer(customer, phone="+1 416 555 0199")
    assert poll(world).wave == []
    body = world.wave.event("customer.updated", customer=customer)
    old = world.wave.signed_headers(body, WEBHOOK_SECRET, NOW - timedelta(hours=1))
    url = f"/webhooks/wave/{world.connection('wave').uuid}/"
    answer = world.client.post(url, data=body, content_type="application/json", headers={"x-wave-signature": old["x-wave-signature"]})
    assert answer.status_code == 401
    poll(world, minutes=0.1)
    assert organization(world)["wave_phone"] == "+1 416 555 0199"
    assert poll(world).wave == []
