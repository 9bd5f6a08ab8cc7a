"""A backfill goes on in turns: beside live events and other workers, through defects, changes and crashes."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from audit import ledger
from audit.models import SyncJob
from integrations import asking, backfill, bringing, estimating, filling, pausing, sweeping
from integrations.core.documents import Document
from integrations.core.errors import Transient, Unmappable
from integrations.models import Binding, FieldMapping, Route, Sweep
from integrations.passes import Pass
from tests.fakes import MODIFIED, FakeRemote, FakeWave
from tests.integrations.reconciling import FAR, work

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def three_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three records to a batch; nobody waits for a bulk job."""
    monkeypatch.setattr(bringing, "MOST", 3)
    monkeypatch.setattr(filling, "POLLS", (0.0,))


@pytest.fixture
def story(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> Route:
    """Two customers with four invoices each, which no one has brought."""
    for number in range(1, 9):
        wave.put_customer(str(100 + number % 2), modified_at=MODIFIED + timedelta(minutes=number % 2))
        wave.put_invoice(str(number), customer=str(100 + number % 2), modified_at=MODIFIED + timedelta(minutes=10 + number))
    return to_zendesk


def begun(route: Route, **more: Any) -> Sweep:
    return backfill.begin(route, started_by="test", **more)[0]


def turned(sweep: Sweep, *, before: str = "", batches: int = 0) -> Sweep:
    """Let a worker take a turn as soon as it is due: to its end, or until a phase has taken so many steps."""
    Sweep.objects.filter(pk=sweep.pk).update(due_at=timezone.now())
    ordinary, steps = backfill._wait, Counter[str]()

    def wait(this: Pass) -> dict[str, Any] | None:
        steps[this.sweep.phase] += 1
        return {"due_at": timezone.now()} if this.sweep.phase == before and steps[before] > batches else ordinary(this)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(backfill, "_wait", wait)
        assert backfill.carry_on(sweep, deadline=FAR)
    sweep.refresh_from_db()
    return sweep


def finished(sweep: Sweep, *, most: int = 20) -> Sweep:
    for _ in range(most):
        if sweep.state != "running":
            break
        turned(sweep)
    assert (sweep.state, sweep.problem) == ("done", "")
    return sweep


def figures(sweep: Sweep) -> tuple[int, int, int]:
    """Return how many there are, were brought and failed."""
    return sweep.figures["total"], sweep.figures["done"], sweep.figures["failed"]


def held(zendesk: FakeRemote, kind: str = "record") -> dict[str, Any]:
    """Return what is due by what is called, twins as lists."""
    name, amount = {"record": ("number", "due"), "organization": ("name", "owed")}[kind]
    found: dict[str, Any] = {}
    for fields in zendesk.holds().get(kind, []):
        found[str(fields[name])] = str(fields.get(amount)) if str(fields[name]) not in found else "twins"
    return found


def test_all_arrives_and_again_nothing_is_written(story: Route, zendesk: FakeRemote) -> None:
    assert figures(finished(begun(story))) == (10, 10, 0)
    assert held(zendesk) == {f"INV-{number}": "100.00" for number in range(1, 9)}
    assert held(zendesk, "organization") == {"Customer 100": "400.00", "Customer 101": "400.00"}
    known = len(zendesk.writes)
    assert figures(finished(begun(story))) == (10, 10, 0)
    assert len(zendesk.writes) == known


# --- A poison record -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["invoice", "customer"])
def test_a_record_that_meets_a_defect_of_ours_holds_no_other_up(story: Route, wave: FakeWave, zendesk: FakeRemote, phase: str) -> None:
    zendesk.defects = {wave.key(phase, {"invoice": "2", "customer": "100"}[phase])}
    sweep = finished(begun(story))
    assert figures(sweep) == (10, 9, 0)
    assert SyncJob.objects.get(state="pending").error_code == "internal_error"
    assert len([event for event in zendesk.events if event.startswith("bulk")]) >= 3, "the others came in bulk"
    zendesk.defects = set()
    SyncJob.objects.update(due_at=timezone.now())
    work()
    assert len(held(zendesk)) == 8


def test_a_defect_that_concerns_a_batch_as_a_whole_is_counted_waited_for_and_gone_around(
    story: Route, zendesk: FakeRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*given: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(filling, "_fill", broken)
    sweep = begun(story)
    for failures in (1, 2, 3):
        turned(sweep)
        assert (sweep.state, sweep.failures) == ("running", failures)
        assert sweep.problem == "a defect in this product; the log names its place"
        assert sweep.due_at > timezone.now() + timedelta(seconds=50 * failures)
    turned(sweep)
    assert sweep.figures["done"] == 2, "the batch was brought one by one"


def test_what_cannot_be_mapped_fails_alone_and_is_shown_with_its_reason(story: Route, wave: FakeWave, zendesk: FakeRemote) -> None:
    zendesk.unmappable = {wave.key("invoice", "2")}
    sweep = finished(begun(story))
    assert figures(sweep) == (10, 9, 1)
    shown = [(one.job.title, one.job.error_code, one.reason) for one in backfill.failures(sweep, most=10)]
    assert shown == [("INV-2", "unmappable", "the mapping gives nothing that a date could be")]
    zendesk.unmappable = set()
    finished(begun(story))
    assert backfill.failures(sweep, most=10) == [], "a later success resolves it"


def test_an_invoice_that_wave_shows_in_another_form_is_left_to_its_own_run(story: Route, wave: FakeWave, zendesk: FakeRemote) -> None:
    wave.unreadable = {wave.key("invoice", "2")}
    wave.odd = {"2": Unmappable("invoice 2 has no status", code="unreadable")}
    sweep = finished(begun(story))
    assert (figures(sweep), len(held(zendesk))) == ((10, 9, 0), 7)
    work()
    assert [one.job.error_code for one in backfill.failures(sweep, most=10)] == ["unreadable"]


def test_a_customer_that_wave_lists_in_another_form_is_brought_all_the_same(story: Route, wave: FakeWave, zendesk: FakeRemote) -> None:
    wave.unreadable = {next(iter(wave.customers.values())).key}
    sweep = finished(begun(story))
    assert (figures(sweep), len(held(zendesk))) == ((10, 10, 0), 8)


# --- Beside live events ----------------------------------------------------------------------------------------------


def event(route: Route, wave: FakeWave, number: str) -> None:
    """Ask for an invoice's job, as a delivery does."""
    with transaction.atomic():
        routes = asking.routes_of(route.source)
        ledger.request(asking.asks_for(route.source, routes, "invoice", wave.key("invoice", number)))


def test_an_event_for_a_record_of_the_batch_waits_behind_it_and_the_newest_wins(story: Route, wave: FakeWave, zendesk: FakeRemote) -> None:
    def change() -> None:
        if wave.invoices["2"].due.amount == 100 and "bulk record 3" in zendesk.events:
            wave.put_invoice("2", customer="100", due="40.00", modified_at=MODIFIED + timedelta(days=1))
            event(story, wave, "2")
            work()

    zendesk.before_bulk = change
    finished(begun(story))
    assert held(zendesk)["INV-2"] == "100.00"
    work()
    assert held(zendesk) == {f"INV-{number}": "40.00" if number == 2 else "100.00" for number in range(1, 9)}
    assert held(zendesk, "organization")["Customer 100"] == "340.00"
    assert not SyncJob.objects.exclude(state="succeeded").exists()


def test_an_event_does_not_wait_for_its_records_turn_where_each_is_written_alone(story: Route, wave: FakeWave, zendesk: FakeRemote) -> None:
    zendesk.bulk_refused = True
    numbers: list[str] = []  # of the first invoice that is written, and of the one that changes then
    seen: list[dict[str, Any]] = []

    def change(document: Document) -> None:
        written = str(document.fields.get("number", "")).removeprefix("INV-")
        if written and not numbers:
            numbers.extend([written, next(other for other in "123" if other != written)])
            customer = str(100 + int(numbers[1]) % 2)
            wave.put_invoice(numbers[1], customer=customer, due="40.00", modified_at=MODIFIED + timedelta(days=1))
            event(story, wave, numbers[1])
        elif written and not seen:
            seen.append({})
            work()  # by another worker
            seen[0] = held(zendesk)

    zendesk.before_write = change
    finished(begun(story))
    first, changed = numbers
    assert seen == [{f"INV-{first}": "100.00", f"INV-{changed}": "40.00"}]
    work()
    assert held(zendesk) == {f"INV-{number}": "40.00" if str(number) == changed else "100.00" for number in range(1, 9)}


def test_an_event_that_is_being_run_keeps_its_record_out_of_the_batch(story: Route, wave: FakeWave, zendesk: FakeRemote) -> None:
    event(story, wave, "2")
    live = ledger.claim(started_by="webhook")
    assert live is not None
    sweep = finished(begun(story))
    assert (figures(sweep), "INV-2" in held(zendesk)) == ((10, 9, 0), False)
    ledger.leave(live.attempts)
    SyncJob.objects.update(due_at=timezone.now())
    work()
    assert len(held(zendesk)) == 8


# --- Wave moves on while it goes on ----------------------------------------------------------------------------------


def test_a_record_that_changed_after_it_was_listed_arrives_as_it_is_now(story: Route, wave: FakeWave, zendesk: FakeRemote) -> None:
    sweep = turned(begun(story), before="customer")
    wave.put_invoice("2", customer="100", due="40.00", modified_at=MODIFIED + timedelta(days=1))
    wave.put_customer("101", name="Renamed", modified_at=MODIFIED + timedelta(days=1))
    assert figures(finished(sweep)) == (10, 10, 0)
    assert held(zendesk)["INV-2"] == "40.00"
    work()
    assert held(zendesk, "organization") == {"Customer 100": "340.00", "Renamed": "400.00"}


def test_a_record_that_is_gone_after_it_was_listed_is_left_to_its_own_run(story: Route, wave: FakeWave, zendesk: FakeRemote) -> None:
    sweep = turned(begun(story), before="customer")
    del wave.invoices["2"]
    assert figures(finished(sweep)) == (10, 9, 0)
    work()
    assert SyncJob.objects.filter(reason="not_found").count() == 1
    assert len(held(zendesk)) == 7


# --- A person changes what is wanted ---------------------------------------------------------------------------------


def test_a_mapping_that_changes_in_the_middle_holds_from_then_on_and_again_brings_it_to_all(story: Route, zendesk: FakeRemote) -> None:
    sweep = turned(begun(story), before="invoice", batches=1)
    assert len(held(zendesk)) == 3
    FieldMapping.objects.create(route=story, kind="invoice", target="note", template="mapped")
    finished(sweep)
    noted = sorted(str(row["number"]) for row in zendesk.holds()["record"] if row.get("note") == "mapped")
    assert noted == [f"INV-{number}" for number in range(4, 9)]
    known = len(zendesk.writes)
    finished(begun(story))
    assert len(zendesk.writes) - known == 3
    assert all(row.get("note") == "mapped" for row in zendesk.holds()["record"])


def test_a_paused_route_makes_it_wait_and_it_goes_on_by_itself(story: Route, zendesk: FakeRemote) -> None:
    sweep = turned(begun(story), before="customer")
    pausing.pause(story)
    known = len(zendesk.events)
    turned(sweep)
    assert (sweep.state, sweep.problem) == ("running", f"{story.slug} is paused")
    assert sweep.due_at > timezone.now() + timedelta(seconds=50)
    assert len(zendesk.events) == known
    pausing.resume(story)
    assert figures(finished(sweep)) == (10, 10, 0)


def test_paused_it_rests_and_resumed_it_goes_on_from_where_it_was(story: Route, wave: FakeWave, zendesk: FakeRemote) -> None:
    sweep = turned(begun(story), before="invoice", batches=1)
    assert backfill.pause(sweep)
    known = len(zendesk.events), len(wave.pages)
    assert not backfill.carry_on(sweep, deadline=FAR)
    assert not backfill.run_due(budget=5)
    assert (len(zendesk.events), len(wave.pages)) == known
    assert not backfill.pause(sweep)
    assert backfill.resume(sweep)
    sweep.refresh_from_db()
    assert figures(finished(sweep)) == (10, 10, 0)
    assert [page[0] for page in wave.pages[known[1] :]] == ["sweep invoice"] * 2, "nothing is listed or read again"


def test_paused_in_the_middle_of_a_batch_it_keeps_what_the_batch_has_done(story: Route, zendesk: FakeRemote) -> None:
    sweep, switched = begun(story), list[bool]()
    zendesk.before_bulk = lambda: switched.append(backfill.pause(sweep))
    turned(sweep)
    assert (sweep.state, sweep.figures["done"], sweep.lease_owner) == ("paused", 2, "")


def test_cancelled_in_the_middle_of_a_batch_it_ends_and_what_was_brought_stays(story: Route, zendesk: FakeRemote) -> None:
    sweep, switched = begun(story), list[bool]()
    zendesk.before_bulk = lambda: switched.append(backfill.cancel(sweep))
    turned(sweep)
    assert (sweep.state, sweep.lease_owner, sweep.lines.count()) == ("cancelled", "", 0)
    assert len(held(zendesk, "organization")) == 2
    assert not backfill.resume(sweep)
    assert not backfill.cancel(sweep)
    zendesk.before_bulk = lambda: None
    assert figures(finished(begun(story))) == (10, 10, 0)
    assert len(held(zendesk, "organization")) == 2


# --- What is chosen --------------------------------------------------------------------------------------------------


def test_only_the_chosen_kind_is_brought(story: Route, zendesk: FakeRemote) -> None:
    assert figures(finished(begun(story, kinds=["customer"]))) == (2, 2, 0)
    assert sorted(zendesk.holds()) == ["organization"]
    assert held(zendesk, "organization") == {"Customer 100": "400.00", "Customer 101": "400.00"}


def test_only_what_changed_since_a_day_is_brought_and_summaries_are_whole(story: Route, wave: FakeWave, zendesk: FakeRemote) -> None:
    since = MODIFIED + timedelta(minutes=15)
    wave.put_customer("101", modified_at=MODIFIED + timedelta(minutes=20))
    told = estimating.estimate(story, since=since)
    assert dict(told.records) == {"customer": 1, "invoice": 3}
    assert figures(finished(begun(story, since=since))) == (4, 4, 0)
    assert sorted(held(zendesk)) == ["INV-6", "INV-7", "INV-8"]
    assert held(zendesk, "organization")["Customer 101"] == "400.00"


def test_an_estimate_writes_nothing_and_asks_the_destination_nothing(story: Route, zendesk: FakeRemote) -> None:
    told = estimating.estimate(story)
    assert (told.total, told.destination_calls, zendesk.events, Sweep.objects.count()) == (10, 4, [], 0)


# --- Two workers, and one that stalls --------------------------------------------------------------------------------


def test_of_two_workers_one_carries_it_on(story: Route, zendesk: FakeRemote) -> None:
    sweep = begun(story)
    seen: list[bool] = []
    zendesk.before_bulk = lambda: seen.append(backfill.carry_on(Sweep.objects.get(pk=sweep.pk), deadline=FAR))
    finished(sweep)
    assert set(seen) == {False}
    assert len(zendesk.writes) == 10


def lose_leases(sweep: Sweep) -> None:
    """Let all leases run out, as when a worker stalls."""
    past = timezone.now() - timedelta(seconds=1)
    Sweep.objects.filter(pk=sweep.pk).update(lease_until=past)
    SyncJob.objects.filter(state="running").update(lease_until=past)


def overtake(sweep: Sweep, wave: FakeWave) -> None:
    """Let another worker go on to the end, with customers that are called otherwise now."""
    lose_leases(sweep)
    for number in ("100", "101"):
        wave.put_customer(number, name=f"New {number}", modified_at=MODIFIED + timedelta(days=1))
    finished(Sweep.objects.get(pk=sweep.pk))


def test_a_worker_that_stalls_before_its_write_writes_nothing_once_another_has_gone_on(
    story: Route, wave: FakeWave, zendesk: FakeRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands between its read and its intents when its leases end; what it has read is old when it comes back."""
    sweep, ordinary, stalled = begun(story), filling._write, list[bool]()

    def write(*given: Any) -> None:
        if not stalled:
            stalled.append(True)
            overtake(sweep, wave)
        ordinary(*given)

    monkeypatch.setattr(filling, "_write", write)
    assert backfill.carry_on(sweep, deadline=FAR)
    sweep.refresh_from_db()
    assert (sweep.state, figures(sweep)) == ("done", (10, 10, 0))
    assert held(zendesk, "organization") == {"New 100": "400.00", "New 101": "400.00"}
    assert len(zendesk.writes) == 10


def test_a_worker_that_stalls_after_its_write_stores_nothing_over_what_another_has_written(
    story: Route, wave: FakeWave, zendesk: FakeRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vendor has carried its call out; the answer is looked at when another worker has written something newer."""
    sweep, ordinary, stalled = begun(story), filling._remember, list[bool]()

    def remember(*given: Any) -> None:
        if not stalled:
            stalled.append(True)
            overtake(sweep, wave)
        ordinary(*given)

    monkeypatch.setattr(filling, "_remember", remember)
    assert backfill.carry_on(sweep, deadline=FAR)
    assert held(zendesk, "organization") == {"New 100": "400.00", "New 101": "400.00"}
    assert set(Binding.objects.filter(kind="organization").values_list("source_modified_at", flat=True)) == {MODIFIED + timedelta(days=1)}
    known = len(zendesk.writes)
    finished(begun(story))
    assert len(zendesk.writes) == known, "what is remembered is what is there"


class Killed(BaseException):
    """The process is gone at once."""


def test_after_a_crash_it_goes_on_with_the_vendors_job_that_was_under_way(
    story: Route, zendesk: FakeRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    zendesk.bulk_later = True
    sweep = begun(story)

    def killed(*given: Any, **more: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(filling, "_followed", killed)
        patched.setattr(sweeping, "give_back", killed)
        patched.setattr(ledger, "leave", killed)
        with pytest.raises(Killed):
            backfill.carry_on(sweep, deadline=FAR)
    stored = Sweep.objects.get(pk=sweep.pk)
    assert stored.options["bulk"]["id"] == "job-1"
    assert not backfill.carry_on(stored, deadline=FAR), "until its lease is over"
    lose_leases(sweep)
    assert figures(finished(stored)) == (10, 10, 0)
    assert held(zendesk, "organization") == {"Customer 100": "400.00", "Customer 101": "400.00"}
    assert len(zendesk.writes) == 10, "what the lost answer was about is found, not written again"


@pytest.mark.parametrize("apart", [timedelta(0), timedelta(milliseconds=1)], ids=["same", "close"])
def test_more_records_of_one_moment_than_a_turn_can_list_are_all_brought(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, apart: timedelta
) -> None:
    for number in range(8):
        at = MODIFIED + number * apart
        wave.put_customer(str(100 + number), modified_at=at)
        wave.put_invoice(str(number), customer=str(100 + number), modified_at=at)
    wave.page_size = 2
    read: list[int] = []

    def count() -> None:
        read.append(1)
        if len(read) % 3 == 0:
            raise Transient("the time was used up", code="budget")

    wave.after_page = count
    sweep = finished(begun(to_zendesk), most=60)
    assert figures(sweep) == (16, 16, 0)
    assert set(held(zendesk)) == {f"INV-{number}" for number in range(8)}


def test_one_whose_route_is_deleted_meanwhile_ends_in_peace(story: Route, wave: FakeWave, caplog: pytest.LogCaptureFixture) -> None:
    sweep = begun(story)

    def delete() -> None:
        Route.objects.filter(pk=story.pk).delete()

    wave.after_page = delete
    assert backfill.carry_on(sweep, deadline=FAR)
    assert (sweep.state, sweep.problem, len(wave.pages)) == ("cancelled", sweeping.DELETED, 1)
    assert [record.message for record in caplog.records if record.levelname != "INFO"] == []
