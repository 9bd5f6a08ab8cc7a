"""What a reconcile finds and mends: everything that no webhook and no poll has brought."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audit.models import SyncJob
from integrations import reconcile, report, tasks
from integrations.models import Finding, Line, Route, Sweep, Watermark
from tests.flows.world import NO_WRITES, Setup, World, key_of

FAR = float("inf")
TRACES = ("wave_synced_at", "wave_job_id", "synced_at", "job_id")


def run(world: World, *, route: str = "", dry_run: bool = False) -> dict[str, Any]:
    """Run a reconcile to its end, without the jobs it asks for; return its report."""
    of = Route.objects.get(slug=route) if route else None
    sweep, _ = reconcile.begin(world.connection("wave"), started_by="test", route=of, dry_run=dry_run)
    assert reconcile.carry_on(sweep, deadline=FAR)
    sweep.refresh_from_db()
    return report.report(sweep)


def found(told: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return route, what the record is called, and the reason of everything that was found."""
    return sorted((one["route"].removeprefix("wave-to-"), one["title"], one["reason"]) for one in told["findings"])


def settled(world: World) -> None:
    """Let everything be brought, by polls too."""
    for _ in range(3):
        world.clock.shift(timedelta(minutes=3))
        tasks.poll()
        repaired(world)


def repaired(world: World, *, rounds: int = 8) -> None:
    """Let workers run until nothing is open, Zendesk's limits notwithstanding."""
    for _ in range(rounds):
        world.settle_later(minutes=2)
        if not SyncJob.objects.filter(state__in=("pending", "running")).exists():
            return
    raise AssertionError(list(SyncJob.objects.filter(state="pending").values_list("kind", "title", "error_code")))


def deaf(world: World) -> None:
    """Let no poll see what has happened so far; webhooks do not come in these stories."""
    world.clock.shift(timedelta(hours=1))
    Watermark.objects.update(reached=datetime.now(UTC))
    world.clock.shift(timedelta(hours=1))


def records(world: World, kind: str = "wave_invoice") -> dict[str, dict[str, Any]]:
    """Return what the linked records of a kind hold, by their name."""
    [entry] = [entry for entry in world.zendesk.state()["custom_objects"] if entry["key"] == kind]
    return {
        row["name"]: {name: value for name, value in row["custom_object_fields"].items() if name not in TRACES} for row in entry["records"]
    }


def organizations(world: World) -> dict[str, dict[str, Any]]:
    """Return what the organizations hold, by their name."""
    rows = world.zendesk.state()["organizations"]
    return {row["name"]: {name: value for name, value in row["organization_fields"].items() if name not in TRACES} for row in rows}


def issues(world: World) -> dict[str, tuple[str, int, bool]]:
    """Return status, number of worklogs and whether it is marked as deleted, of each issue by its summary."""
    rows = world.jira.state()["issues"].values()
    return {row["summary"]: (row["status"], len(row["worklogs"]), "wave-deleted" in row["labels"]) for row in rows}


def edit_record(world: World, name: str, **values: Any) -> None:
    """Let an agent change fields of a linked invoice record."""
    [row] = [row for entry in world.zendesk.objects.rows.values() for row in entry.records.values() if row.name == name]
    row.values.update(values)


# --- Unchanged -------------------------------------------------------------------------------------------------------


def test_unchanged_data_costs_no_write_and_one_read_per_page(world: World) -> None:
    world.synced()
    settled(world)
    with world.counting() as counted:
        told = run(world)
        world.settle()
    assert counted.wave == ["POST read"] * 2, "a page of invoices and a page of customers"
    assert (sorted(counted.zendesk), counted.jira) == (["GET organization", "GET user", "GET wave_invoice"], ["POST fetch"])
    assert counted.writes == NO_WRITES
    assert (told["findings"], told["money"], told["records"]) == ([], [], {"customer": 1, "invoice": 1})
    assert report.agrees(told)
    assert not Line.objects.exists()


# --- What was missed ---------------------------------------------------------------------------------------------------


def test_after_the_loss_of_every_event_one_reconcile_makes_all_records_right(world: World) -> None:
    ada, bob, cem = (world.customer(name, email=f"{name.lower()}@example.com") for name in ("Ada", "Bob", "Cem"))
    paid, gone, moved = world.invoice(ada, "INV-1"), world.invoice(ada, "INV-2"), world.invoice(bob, "INV-3")
    draft, paid_back = world.invoice(cem, "INV-4", sent=False), world.invoice(cem, "INV-6")
    payment = world.wave.pay(paid_back, "20.00")
    settled(world)
    world.wave.pay(paid, "50.00")
    world.wave.delete_invoice(gone)
    world.wave.change_invoice(moved, customer=cem)
    world.wave.change_invoice(draft, total="99.00")
    world.wave.change_customer(bob, name="Bob & Sons")
    world.wave.remove_payment(payment)
    world.invoice(bob, "INV-5")
    deaf(world)
    told = run(world)
    assert {reason for _, _, reason in found(told)} == {"missed", "unbound", "deleted"}
    assert told["repairs"] == told["repairs_because_a_webhook_was_missed"] > 0
    repaired(world)
    assert {name: (row["status"], row["paid"], row["due"]) for name, row in records(world).items()} == {
        "INV-1": ("PARTIAL", "50.00", "70.00"),
        "INV-2": ("DELETED", "0.00", "0.00"),
        "INV-3": ("SENT", "0.00", "120.00"),
        "INV-4": ("DRAFT", "0.00", "99.00"),
        "INV-5": ("SENT", "0.00", "120.00"),
        "INV-6": ("SENT", "0.00", "120.00"),
    }
    assert {name: (row["wave_outstanding"], row["wave_open_count"]) for name, row in organizations(world).items()} == {
        "Ada": ("70.00", 1),
        "Bob & Sons": ("120.00", 1),
        "Cem": ("240.00", 2),
    }
    assert len(records(world, "wave_payment")) == 1
    assert issues(world) == {
        "INV-1 Ada: 120.00 USD": ("In Progress", 1, False),
        "INV-2 Ada: 120.00 USD": ("In Progress", 0, True),
        "INV-3 Cem: 120.00 USD": ("In Progress", 0, False),
        "INV-4 Cem: 99.00 USD": ("To Do", 0, False),
        "INV-5 Bob & Sons: 120.00 USD": ("In Progress", 0, False),
        "INV-6 Cem: 120.00 USD": ("In Progress", 0, False),
    }
    settled(world)
    assert report.agrees(run(world)), "a second reconcile finds nothing, what was deleted included"


def test_where_records_may_be_deleted_a_deleted_invoice_takes_its_record_along(make_world: Callable[[Setup], World]) -> None:
    world = make_world(Setup(zendesk_options={"on_delete": "delete"}))
    _, invoice = world.synced()
    world.wave.pay(invoice, "50.00")
    settled(world)
    world.wave.delete_invoice(invoice)
    deaf(world)
    assert [reason for _, _, reason in found(run(world))] == ["deleted", "deleted", "missed"]
    repaired(world)
    assert (records(world), records(world, "wave_payment")) == ({}, {})
    assert organizations(world)["Northwind Bakery"]["wave_outstanding"] == "0.00"
    assert report.agrees(run(world))


def test_a_record_that_only_left_the_list_is_not_taken_for_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, invoice = world.synced()
    settled(world)
    hidden = world.wave.invoices.pop(invoice)
    told = run(world)
    world.wave.invoices[invoice] = hidden
    assert ("jira", "INV-1", "deleted") in found(told)
    repaired(world)
    assert issues(world) == {"INV-1 Northwind Bakery: 120.00 USD": ("In Progress", 0, False)}


def test_a_day_without_any_event_moves_ages_and_overdue_counts_and_writes_nothing_else(world: World) -> None:
    world.invoice(customer := world.customer(), "INV-1", due_date="2026-05-04")
    settled(world)
    other = world.customer("Cem", email="cem@example.com")
    world.invoice(other, "INV-2")
    settled(world)
    assert organizations(world)["Northwind Bakery"]["wave_oldest_overdue_days"] == 0
    world.clock.move_to(datetime(2026, 5, 6, 4, 6, tzinfo=UTC))  # six minutes past midnight in Toronto
    world.live_since(datetime(2026, 5, 1, tzinfo=UTC))
    Watermark.objects.update(due_at=datetime(2027, 1, 1, tzinfo=UTC))
    with world.counting() as counted:
        tasks.reconcile()
        repaired(world)
    assert counted.writes == (["PUT organization"], [])
    row = organizations(world)["Northwind Bakery"]
    assert (row["wave_oldest_overdue_days"], row["wave_overdue_count"]) == (2, 1)
    assert [(one.key, one.reason) for one in Finding.objects.all()] == [(key_of(customer), "aged")]


def test_the_daily_reconcile_begins_once_a_day_after_the_businesss_midnight(world: World) -> None:
    world.synced()
    for moment, count in (((5, 3, 59), 0), ((5, 4, 4), 0), ((5, 4, 6), 1), ((5, 23, 0), 1), ((6, 3, 59), 1), ((6, 4, 6), 2)):
        world.clock.move_to(datetime(2026, 5, *moment, tzinfo=UTC))
        tasks.reconcile()
        assert Sweep.objects.filter(state="done").count() == count, moment


# --- Drift -------------------------------------------------------------------------------------------------------------


def test_what_people_edited_is_found_and_written_again(world: World) -> None:
    world.synced()
    settled(world)
    edit_record(world, "INV-1", due="119.99")
    [issue] = world.jira.issues.values()
    issue.values["summary"], issue.status = "somebody's own words", "To Do"
    told = run(world)
    assert found(told) == [("jira", "INV-1", "drifted"), ("zendesk", "INV-1", "drifted")]
    assert [(one["outstanding"], one["open_sum"], one["agrees"]) for one in told["money"]] == [("120.00", "120.00", False)]
    assert told["money"][0]["held"]["wave-to-zendesk"] == {"customer": "120.00", "invoices": "119.99"}
    assert told["repairs_because_a_webhook_was_missed"] == 0
    repaired(world)
    assert records(world)["INV-1"]["due"] == "120.00"
    assert issues(world) == {"INV-1 Northwind Bakery: 120.00 USD": ("In Progress", 0, False)}
    assert report.agrees(run(world))
