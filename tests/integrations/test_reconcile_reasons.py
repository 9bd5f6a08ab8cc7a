"""Why a record is in a reconcile's report, one reason each; and what is left out of it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from audit.models import SyncJob
from audit.states import State
from integrations import pausing, report
from integrations.core.errors import Rejected
from integrations.models import Binding, Connection, FieldMapping, Finding, Route
from tests.admin.people import job_of
from tests.fakes import FakeRemote, FakeWave, Fault, euro
from tests.integrations.reconciling import LATER, begun, brought, found, run, turned, work

pytestmark = pytest.mark.django_db
Ready = tuple[FakeWave, FakeRemote, Route]


@pytest.fixture
def ready(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> Ready:
    """Two invoices of one customer, the first with a payment, all at Zendesk."""
    wave.put_invoice("1", payments={"5": "10.00"})
    wave.put_invoice("2")
    brought(wave, (to_zendesk, zendesk))
    return wave, zendesk, to_zendesk


def remote_of(zendesk: FakeRemote, wave: FakeWave, kind: str = "invoice", number: str = "1") -> str:
    document = {"invoice": "record", "customer": "organization", "payment": "payment"}[kind]
    [remote_id] = zendesk.of_key(document, wave.key(kind, number))
    return remote_id


def binding(wave: FakeWave, kind: str = "invoice", number: str = "1") -> Binding:
    return Binding.objects.get(key=wave.key(kind, number))


def test_what_agrees_is_not_in_the_report(ready: Ready, source: Connection) -> None:
    told = run(source)
    assert (told["findings"], told["money"], told["records"]) == ([], [], {"customer": 1, "invoice": 2})
    assert report.agrees(told)
    assert not SyncJob.objects.exists()


# --- Each reason -----------------------------------------------------------------------------------------------------


def missed(wave: FakeWave, zendesk: FakeRemote, route: Route) -> None:
    wave.put_invoice("2", due="40.00", modified_at=LATER)


def payment_swapped(wave: FakeWave, zendesk: FakeRemote, route: Route) -> None:
    wave.put_invoice("1", payments={"6": "10.00"}, modified_at=LATER)


def paid_unnoticed(wave: FakeWave, zendesk: FakeRemote, route: Route) -> None:
    wave.put_invoice("2", paid=euro("10.00"), payments={"6": "10.00"}, modified_at=LATER)


def unbound(wave: FakeWave, zendesk: FakeRemote, route: Route) -> None:
    wave.put_invoice("3", due="0.00")


def deleted(wave: FakeWave, zendesk: FakeRemote, route: Route) -> None:
    del wave.invoices["2"]
    wave.put_invoice("1", payments={"5": "10.00"})


def aged(wave: FakeWave, zendesk: FakeRemote, route: Route) -> None:
    FieldMapping.objects.create(route=route, kind="customer", target="tier", template="gold")


def drifted(wave: FakeWave, zendesk: FakeRemote, route: Route) -> None:
    zendesk.objects[remote_of(zendesk, wave)].fields["status"] = "by hand"


def absent(wave: FakeWave, zendesk: FakeRemote, route: Route) -> None:
    del zendesk.objects[remote_of(zendesk, wave, "customer", "7")]


def payment_absent(wave: FakeWave, zendesk: FakeRemote, route: Route) -> None:
    del zendesk.objects[remote_of(zendesk, wave, "payment", "5")]


def unfinished(wave: FakeWave, zendesk: FakeRemote, route: Route) -> None:
    Binding.objects.filter(key=wave.key("invoice", "1")).update(state=Binding.State.IN_DOUBT)


def lost(wave: FakeWave, zendesk: FakeRemote, route: Route) -> None:
    Binding.objects.filter(key=wave.key("invoice", "1")).update(state=Binding.State.LOST)


def twins(wave: FakeWave, zendesk: FakeRemote, route: Route) -> None:
    key = wave.key("invoice", "1")
    zendesk.make("record", key, {})
    Binding.objects.filter(key=key).update(remote_id="")


def unmappable(wave: FakeWave, zendesk: FakeRemote, route: Route) -> None:
    zendesk.unmappable.add(wave.key("customer", "7"))


def unreadable(wave: FakeWave, zendesk: FakeRemote, route: Route) -> None:
    wave.unreadable.add(wave.key("customer", "7"))


CHANGES = {
    missed: [("Customer 7", "missed", ("owed",)), ("INV-2", "missed", ("due",))],
    payment_swapped: [("INV-1", "missed", ())],
    paid_unnoticed: [("INV-2", "missed", ())],
    unbound: [("INV-3", "unbound", ())],
    aged: [("Customer 7", "aged", ("tier",))],
    drifted: [("INV-1", "drifted", ("status",))],
    absent: [("Customer 7", "absent", ())],
    payment_absent: [("INV-1", "absent", ())],
    unfinished: [("INV-1", "unfinished", ())],
    lost: [("INV-1", "lost", ())],
    twins: [("INV-1", "twins", ())],
    unmappable: [("Customer 7", "unmappable", ())],
    unreadable: [("", "unreadable", ())],
}


@pytest.mark.parametrize(("change", "expected"), CHANGES.items(), ids=lambda one: getattr(one, "__name__", ""))
def test_each_reason_is_told_with_the_fields_and_mended_by_a_job(
    ready: Ready, source: Connection, change: Callable[..., None], expected: list[Any]
) -> None:
    change(*ready)
    told = run(source)
    assert found(told) == [("zendesk", *one) for one in expected]
    by_people = {"lost", "twins"}
    assert [bool(one["job"]) for one in told["findings"]] == [one["reason"] not in by_people for one in told["findings"]]
    assert (told["repairs"], told["for_people"]) == (SyncJob.objects.count(), sum(one[1] in by_people for one in expected))


MENDED = [missed, payment_swapped, paid_unnoticed, unbound, aged, drifted, payment_absent, unfinished]


@pytest.mark.parametrize("change", MENDED, ids=lambda one: one.__name__)
def test_after_the_repairs_the_next_reconcile_finds_nothing(ready: Ready, source: Connection, change: Callable[..., None]) -> None:
    change(*ready)
    run(source)
    work()
    assert report.agrees(told := run(source)), told


def test_a_payment_that_was_swapped_for_another_unnoticed_is_taken_away_and_the_new_one_brought(ready: Ready, source: Connection) -> None:
    wave, zendesk, _ = ready
    payment_swapped(*ready)
    run(source)
    work()
    assert [item.key for item in zendesk.objects.values() if item.kind == "payment"] == [wave.key("payment", "6")]
    assert [write.kind for write in zendesk.writes] == ["payment"], "nothing else has changed"


def test_a_change_of_an_invoice_without_money_that_leaves_all_fields_as_they_were_costs_no_read(ready: Ready, source: Connection) -> None:
    ready[0].put_invoice("2", modified_at=LATER)
    assert run(source)["findings"] == []


def test_only_what_no_event_told_counts_as_a_missed_webhook(ready: Ready, source: Connection) -> None:
    for change in (missed, drifted):
        change(*ready)
    told = run(source)
    assert (told["repairs"], told["repairs_because_a_webhook_was_missed"]) == (3, 2)
    assert told["by_reason"] == {"drifted": 1, "missed": 2}


# --- Deletions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_delete", ["mark", "delete"])
def test_a_deletion_is_carried_out_once_after_a_read_by_id(ready: Ready, source: Connection, on_delete: str) -> None:
    wave, zendesk, route = ready
    route.options["on_delete"] = on_delete
    route.save()
    del wave.invoices["1"]
    wave.put_invoice("2")
    assert ("zendesk", "", "deleted", ()) in found(run(source))
    work()
    assert (wave.reads, wave.batches) != ([], []), "it is read by id before it is believed"
    kept = [item.fields["status"] for item in zendesk.objects.values() if item.key == wave.key("invoice", "1")]
    assert kept == (["DELETED"] if on_delete == "mark" else [])
    for _ in range(2):
        assert report.agrees(told := run(source)), told


def test_what_only_left_the_list_stays_as_it_is(ready: Ready, source: Connection) -> None:
    wave, zendesk, _ = ready
    hidden = wave.invoices.pop("1")
    sweep = turned(begun(source))
    told = [one for one in report.report(sweep)["findings"] if one["reason"] == "deleted"]
    assert ([one["means"] for one in told], report.figures(sweep)["repairs_because_a_webhook_was_missed"]) == (["deleted in Wave"], 1)
    wave.invoices["1"] = hidden
    work()
    assert zendesk.objects[remote_of(zendesk, wave)].fields["status"] == "SENT"
    told = [one for one in report.report(sweep)["findings"] if one["reason"] == "deleted"]
    assert [(one["means"], one["repair"]) for one in told] == [("not in Wave's lists, but still there", "succeeded")]
    assert report.figures(sweep)["repairs_because_a_webhook_was_missed"] == 0


def test_a_route_without_customers_is_not_asked_to_delete_the_organization_that_an_invoice_made(
    wave: FakeWave, zendesk: FakeRemote, source: Connection, zendesk_route: Callable[..., Route]
) -> None:
    route = zendesk_route(source, kinds=("invoice",))
    wave.put_invoice("1")
    stub = {"kind": "organization", "key": wave.key("customer", "9"), "remote_id": "9", "state": "bound", "written_at": LATER}
    Binding.objects.create(route=route, **stub)
    told = run(source)
    assert found(told) == [("zendesk", "INV-1", "unbound", ())]


# --- What is in hand -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.PENDING, State.RUNNING, State.BLOCKED])
def test_what_a_job_is_about_to_bring_is_left_out(ready: Ready, source: Connection, state: str) -> None:
    wave, _, route = ready
    drifted(*ready)
    job_of(route, 1, key=wave.key("invoice", "1"), state=state)
    assert run(source)["findings"] == []


def test_what_was_left_to_jobs_is_counted_once_a_route_and_does_not_agree(ready: Ready, source: Connection) -> None:
    wave, _, route = ready
    wave.page_size = 1  # records come twice then
    wave.put_invoice("3", modified_at=LATER)
    job_of(route, 1, key=wave.key("invoice", "1"), state=State.BLOCKED)
    job_of(route, 7, kind="customer", key=wave.key("customer", "7"), state=State.PENDING)
    told = run(source)
    assert (told["left_to_jobs"], [one["title"] for one in told["findings"]], report.agrees(told)) == (2, ["INV-3"], False)
    assert "; 2 records were left to jobs that wait" in report.in_words(told)
    SyncJob.objects.all().delete()
    wave.invoices.pop("3")
    wave.put_customer("7", outstanding=euro("200.00"))
    told = run(source)
    assert (told["left_to_jobs"], report.agrees(told), "left to jobs" in report.in_words(told)) == (0, True, False)


def test_a_customer_whose_invoice_a_job_brings_counts_as_left_as_the_sums_were(ready: Ready, source: Connection) -> None:
    wave, _, route = ready
    job_of(route, 1, key=wave.key("invoice", "1"), customer_key=wave.key("customer", "7"), state=State.PENDING)
    assert run(source)["left_to_jobs"] == 2


def test_what_was_written_after_the_page_was_read_is_left_out(ready: Ready, source: Connection) -> None:
    wave, _, _ = ready
    drifted(*ready)
    later = timezone.now() + timedelta(minutes=1)

    def write() -> None:
        Binding.objects.update(written_at=later)

    wave.after_page = write
    assert run(source)["findings"] == []


def test_what_was_written_from_a_newer_state_is_left_out(ready: Ready, source: Connection) -> None:
    drifted(*ready)
    Binding.objects.update(source_modified_at=LATER)
    assert run(source)["findings"] == []


@pytest.mark.parametrize("change", [unmappable, unreadable], ids=lambda one: one.__name__)
def test_what_ended_dead_for_its_mapping_or_form_makes_no_dead_letter_a_day(
    ready: Ready, source: Connection, change: Callable[..., None]
) -> None:
    wave, _, route = ready
    change(*ready)
    job_of(route, 7, kind="customer", key=wave.key("customer", "7"), state=State.DEAD)
    told = run(source)
    assert ([bool(one["job"]) for one in told["findings"]], SyncJob.objects.count()) == ([False], 1)


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("change", [missed, unbound, deleted], ids=lambda one: one.__name__)
def test_what_was_refused_before_is_no_missed_webhook_and_is_asked_for_again(
    ready: Ready, source: Connection, change: Callable[..., None], dry_run: bool
) -> None:
    wave, _, route = ready
    change(*ready)
    about = wave.key("invoice", "3" if change is unbound else "2")
    dead = job_of(route, 1, key=about, state=State.DEAD)
    told = run(source, dry_run=dry_run)
    [one] = [one for one in told["findings"] if one["kind"] == "invoice"]
    assert (one["reason"], one["means"], bool(one["job"])) == ("refused", "failed before: see the dead letter", not dry_run)
    assert told["repairs_because_a_webhook_was_missed"] == 0
    assert SyncJob.objects.filter(key=about).exclude(pk=dead.pk).count() == (not dry_run)


@pytest.mark.parametrize("about", ["another route", "resolved"])
def test_a_dead_letter_of_another_route_or_one_that_is_resolved_explains_nothing(
    ready: Ready, jira: FakeRemote, to_jira: Route, source: Connection, about: str
) -> None:
    wave, _, route = ready
    missed(*ready)
    healed = job_of(route, 1, state=State.SUCCEEDED)
    values = {"resolved_by": healed} if about == "resolved" else {}
    job_of(route if values else to_jira, 2, key=wave.key("invoice", "2"), state=State.DEAD, **values)
    told = found(run(source, route=route))
    assert ("zendesk", "INV-2", "missed", ("due",)) in told


def test_what_is_refused_each_day_is_one_dead_letter(ready: Ready, source: Connection) -> None:
    wave, zendesk, _ = ready
    missed(*ready)
    for _ in range(3):
        zendesk.faults = [Fault(Rejected("PUT /record: 422", code="refused"), kind="record")]
        run(source)
        work()
    left = SyncJob.objects.filter(key=wave.key("invoice", "2"), state=State.DEAD, resolved_by=None)
    assert (left.count(), SyncJob.objects.filter(state=State.DEAD).count()) == (1, 3)
    assert [one.reason for one in Finding.objects.filter(key=wave.key("invoice", "2")).order_by("pk")] == ["missed", "refused", "refused"]
    run(source)
    work()
    assert (left.exists(), report.agrees(run(source))) == (False, True)


# --- Routes ----------------------------------------------------------------------------------------------------------


def test_a_reconcile_of_one_route_lets_the_other_be(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route, source: Connection
) -> None:
    wave.put_invoice("1")
    assert found(run(source, route=to_jira)) == [("jira", "INV-1", "unbound", ())]


def test_a_paused_route_is_compared_and_its_repairs_wait(ready: Ready, source: Connection) -> None:
    pausing.pause(ready[2])
    drifted(*ready)
    assert found(run(source)) == [("zendesk", "INV-1", "drifted", ("status",))]
    work()
    assert SyncJob.objects.get().state == State.PENDING
