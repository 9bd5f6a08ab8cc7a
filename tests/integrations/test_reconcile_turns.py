"""A reconcile goes on in turns: through failures, crashes and two workers at once; a new one each day."""

import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import OperationalError, connection, connections, transaction
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit import ledger, outages
from audit.models import Hold, SyncJob
from integrations import asking, findings, phases, reconcile, report, sweeping, tasks
from integrations.core.errors import Disconnected, Rejected, Transient
from integrations.core.paging import BEGINNING
from integrations.models import Binding, Connection, Line, Route, Sweep
from tests.fakes import MODIFIED, FakeRemote, FakeWave
from tests.integrations.reconciling import FAR, begun, brought, found, reasons, run, turned, work

pytestmark = pytest.mark.django_db
DOWN = Transient("POST /graphql: 503", code="unavailable")


@pytest.fixture
def five(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> FakeWave:
    """Five invoices that never arrived, two to a page."""
    for number in range(1, 6):
        wave.put_invoice(str(number), modified_at=MODIFIED + timedelta(minutes=number))
    wave.page_size = 2
    return wave


def free(sweep: Sweep) -> None:
    """Let the lease run out."""
    Sweep.objects.filter(pk=sweep.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def falls_after(wave: FakeWave, pages: int) -> None:
    """Let Wave be down once so many pages have been read."""

    def count() -> None:
        if len(wave.pages) == pages:
            wave.down = DOWN

    wave.after_page = count


# --- The source fails ------------------------------------------------------------------------------------------------


def test_a_failing_source_is_waited_for_and_the_pages_stored_are_not_read_again(five: FakeWave, source: Connection) -> None:
    falls_after(five, 2)
    sweep = turned(begun(source))
    assert (sweep.state, sweep.failures, sweep.problem, sweep.phase) == ("running", 1, "POST /graphql: 503", "invoice")
    assert timedelta(seconds=50) < sweep.due_at - timezone.now() <= timedelta(minutes=1)
    assert reasons(sweep) == [(str(number), "unbound") for number in range(1, 5)]
    five.down, known = None, len(five.pages)
    turned(sweep)
    assert (sweep.state, sweep.problem, sweep.failures) == ("done", "", 0)
    assert five.pages[known][1] > BEGINNING, "it goes on from the page stored last"
    assert reasons(sweep) == [("1", "unbound"), ("2", "unbound"), ("3", "unbound"), ("4", "unbound"), ("5", "unbound"), ("7", "unbound")]
    assert SyncJob.objects.count() == 6


def test_the_fifth_failure_in_a_row_ends_it_for_today(five: FakeWave, source: Connection) -> None:
    five.down = DOWN
    sweep = begun(source)
    waits = []
    for _ in range(4):
        turned(sweep)
        waits.append(round((sweep.due_at - timezone.now()).total_seconds() / 60))
    assert (waits, sweep.state) == ([1, 2, 3, 4], "running")
    turned(sweep)
    assert (sweep.state, sweep.problem, sweep.lease_owner) == ("failed", "POST /graphql: 503", "")
    assert report.in_words(report.report(sweep)) == "failed: POST /graphql: 503"


def test_the_vendors_own_time_is_kept_to_and_waits_that_say_nothing_of_it_are_not_counted(five: FakeWave, source: Connection) -> None:
    until = timezone.now() + timedelta(minutes=7)
    five.down = Transient("POST /graphql: 429", code="rate_limited", not_before=until, scope="connection", counted=False)
    sweep = turned(begun(source), times=6)
    assert (sweep.state, sweep.failures, sweep.due_at) == ("running", 0, until)
    assert not reconcile.run_due(budget=5), "it is not due"
    assert list(Hold.objects.values_list("scope", "until")) == [(f"connection:{source.pk}", until)]


def test_a_source_that_is_held_is_not_called_until_the_hold_ends(five: FakeWave, source: Connection) -> None:
    scope, until = f"connection:{source.pk}", timezone.now() + timedelta(minutes=30)
    Hold.objects.create(scope=scope, reason="limit", until=until, created_at=timezone.now())
    sweep = turned(begun(source), times=7)
    assert (sweep.state, sweep.failures, sweep.due_at, sweep.problem) == ("running", 0, until, "wave-main is held: limit")
    assert five.pages == []
    Hold.objects.update(until=timezone.now())
    assert turned(sweep).state == "done"


def test_of_a_source_that_was_down_the_next_page_is_the_probe_and_only_one(five: FakeWave, source: Connection) -> None:
    def lift() -> None:
        Hold.objects.all().delete()

    outages.begin(f"connection:{source.pk}")
    sweep = turned(begun(source))
    assert (sweep.state, sweep.problem, five.pages) == ("running", "wave-main is held: vendor_down", [])
    Hold.objects.update(until=timezone.now())
    assert outages.is_free(f"connection:{source.pk}"), "another worker probes"
    assert (turned(sweep).state, five.pages) == ("running", [])
    Hold.objects.update(until=timezone.now())
    five.after_page = lift
    assert turned(sweep).state == "done"


def test_a_source_that_must_be_connected_again_is_not_called(five: FakeWave, source: Connection) -> None:
    Hold.objects.create(scope=f"connection:{source.pk}", reason="needs_reconnect", created_at=timezone.now())
    sweep = turned(begun(source))
    assert (sweep.state, sweep.problem, five.pages) == ("failed", "wave-main must be connected again", [])


def test_one_that_ends_while_another_is_begun_makes_room(five: FakeWave, source: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    first, ordinary, looked = begun(source), sweeping.open_of, list[bool]()

    def ended(purpose: str) -> QuerySet[Sweep]:
        if not looked:
            looked.append(True)
            Sweep.objects.filter(pk=first.pk).update(state=Sweep.State.DONE)
        return ordinary(purpose)

    monkeypatch.setattr(sweeping, "open_of", ended)
    second, new = reconcile.begin(source, started_by="test")
    assert (new, second.pk != first.pk, looked) == (True, True, [True])


def test_a_dead_grant_at_the_source_ends_it_and_says_so(five: FakeWave, source: Connection) -> None:
    five.down = Disconnected("wave-main: the grant is dead")
    sweep = turned(begun(source))
    assert (sweep.state, sweep.problem) == ("failed", "wave-main: the grant is dead")
    assert Connection.objects.get(pk=source.pk).status == Connection.Status.NEEDS_RECONNECT


def test_a_defect_of_ours_is_a_failure_like_others_and_its_text_stays_out_of_the_log(
    five: FakeWave, source: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    def break_down() -> None:
        raise ZeroDivisionError("Ada Miller, ada@example.com")

    five.after_page = break_down
    with caplog.at_level(logging.DEBUG):
        sweep = turned(begun(source), times=5)
    assert (sweep.state, sweep.problem) == ("failed", "a defect in this product; the log names its place")
    assert "ZeroDivisionError" in caplog.text and "Ada" not in caplog.text


# --- More of one moment than a turn can read --------------------------------------------------------------------------


@pytest.fixture
def dense(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, apart: timedelta) -> FakeWave:
    """Twelve invoices of twelve customers that changed within a second, two to a page; one cannot be read."""
    for number in range(12):
        at = MODIFIED + number * apart
        wave.put_customer(str(100 + number), modified_at=at)
        wave.put_invoice(str(number), customer=str(100 + number), modified_at=at)
    wave.unreadable = {wave.key("invoice", "7"), wave.key("customer", "107")}
    wave.page_size = 2
    return wave


def short_of_time(wave: FakeWave, pages: int) -> None:
    """Let a turn have time for so many pages; the source's own client ends what takes longer."""
    read: list[int] = []

    def count() -> None:
        read.append(1)
        if len(read) % (pages + 1) == 0:
            raise Transient("the time was used up", code="budget")

    wave.after_page = count


@pytest.mark.parametrize("pages", [1, 2, 4])
@pytest.mark.parametrize("apart", [timedelta(0), timedelta(milliseconds=1)], ids=["same", "close"])
def test_more_records_of_one_moment_than_a_turn_can_read_are_all_compared(dense: FakeWave, source: Connection, pages: int) -> None:
    short_of_time(dense, pages)
    sweep = begun(source)
    turns = 0
    while sweep.state == "running" and turns < 100:
        turned(sweep)
        turns += 1
    assert (sweep.state, sweep.failures) == ("done", 0)
    assert turns <= 4 * len(dense.invoices) // pages
    unreadable = {"7": "unreadable", "107": "unreadable"}
    assert dict(reasons(sweep)) == {str(100 * of + number): "unbound" for of in (0, 1) for number in range(12)} | unreadable


# --- A destination fails ---------------------------------------------------------------------------------------------


@pytest.fixture
def two(wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route) -> tuple[FakeWave, FakeRemote]:
    """One invoice at both destinations, edited at Jira."""
    wave.put_invoice("1")
    brought(wave, (to_zendesk, zendesk), (to_jira, jira))
    [issue] = jira.of_key("record", wave.key("invoice", "1"))
    jira.objects[issue].fields["status"] = "by hand"
    return wave, zendesk


AT_JIRA = [("jira", "INV-1", "drifted", ("status",))]


def test_a_failing_destination_is_waited_for_then_left_out_while_the_other_goes_on(
    two: tuple[FakeWave, FakeRemote], source: Connection, to_zendesk: Route
) -> None:
    two[1].down = Transient("GET /record/many: 503", code="unavailable")
    sweep = turned(begun(source), times=4)
    assert (sweep.state, sweep.failures, sweep.left_out) == ("running", 4, {})
    turned(sweep)
    told = report.report(sweep)
    assert (told["state"], told["left_out"]) == ("done", {"wave-to-zendesk": "GET /record/many: 503"})
    assert found(told) == AT_JIRA
    assert "wave-to-zendesk was not looked at: GET /record/many: 503" in report.in_words(told)


def test_a_limit_at_a_destination_does_not_hold_the_source(two: tuple[FakeWave, FakeRemote], source: Connection, to_zendesk: Route) -> None:
    until = timezone.now() + timedelta(minutes=3)
    two[1].down = Transient("GET /record/many: 429", code="rate_limited", not_before=until, scope="connection")
    sweep = turned(begun(source))
    assert (sweep.state, sweep.due_at, sweep.problem) == ("running", until, "GET /record/many: 429")
    assert list(Hold.objects.values_list("scope", flat=True)) == [f"connection:{to_zendesk.destination_id}"]


def test_a_destination_whose_grant_dies_is_left_out_and_marked(
    two: tuple[FakeWave, FakeRemote], source: Connection, to_zendesk: Route
) -> None:
    two[1].down = Disconnected("the grant is dead")
    told = run(source)
    assert (told["left_out"], found(told)) == ({"wave-to-zendesk": "the grant is dead"}, AT_JIRA)
    states = dict(Connection.objects.values_list("slug", "status"))
    assert (states["wave-main"], states["wave-to-zendesk-account"]) == ("ready", "needs_reconnect")


def test_a_destination_that_needs_reconnecting_is_not_even_asked(
    two: tuple[FakeWave, FakeRemote], source: Connection, to_zendesk: Route
) -> None:
    Connection.objects.filter(pk=to_zendesk.destination_id).update(status=Connection.Status.NEEDS_RECONNECT)
    told = run(source)
    assert (list(told["left_out"]), found(told), two[1].events) == (["wave-to-zendesk"], AT_JIRA, [])


def test_a_destination_that_is_set_up_wrongly_is_left_out_and_the_source_is_not_blamed(
    two: tuple[FakeWave, FakeRemote], source: Connection, to_zendesk: Route
) -> None:
    Connection.objects.filter(pk=to_zendesk.destination_id).update(settings={"subdomain": "no bare label"})
    told = run(source)
    assert (list(told["left_out"]), found(told)) == (["wave-to-zendesk"], AT_JIRA)
    assert Connection.objects.get(pk=source.pk).status == Connection.Status.READY


def test_what_is_deleted_is_not_asked_of_a_destination_that_was_left_out(
    two: tuple[FakeWave, FakeRemote], source: Connection, to_zendesk: Route
) -> None:
    Connection.objects.filter(pk=to_zendesk.destination_id).update(status=Connection.Status.NEEDS_RECONNECT)
    two[0].invoices.clear()
    assert found(run(source)) == [("jira", "", "deleted", ())]


def held(route: Route, reason: str, until: datetime | None) -> None:
    """Hold a route's destination."""
    Hold.objects.create(scope=f"connection:{route.destination_id}", reason=reason, until=until, created_at=timezone.now())


@pytest.mark.parametrize(
    ("reason", "minutes", "why"),
    [("rate_limited", 30, "wave-to-zendesk-account is held: rate_limited"), ("needs_reconnect", None, phases.RECONNECT)],
    ids=["for long", "until a person acts"],
)
def test_a_destination_that_is_held_for_long_is_left_out_without_a_call(
    two: tuple[FakeWave, FakeRemote], source: Connection, to_zendesk: Route, reason: str, minutes: int | None, why: str
) -> None:
    held(to_zendesk, reason, timezone.now() + timedelta(minutes=minutes) if minutes else None)
    told = run(source)
    assert (told["state"], told["left_out"], found(told), two[1].events) == ("done", {"wave-to-zendesk": why}, AT_JIRA, [])


def test_a_destination_that_is_free_again_soon_is_waited_for_without_a_call_of_either_end(
    two: tuple[FakeWave, FakeRemote], source: Connection, to_zendesk: Route
) -> None:
    until = timezone.now() + timedelta(minutes=3)
    held(to_zendesk, "rate_limited", until)
    sweep = turned(begun(source))
    assert (sweep.state, sweep.due_at, sweep.problem) == ("running", until, "wave-to-zendesk-account is held: rate_limited")
    assert (two[0].pages, two[1].events) == ([], [])
    Hold.objects.update(until=timezone.now())
    assert (turned(sweep).state, sweep.left_out) == ("done", {})


def test_a_destination_that_is_held_again_and_again_is_left_out_at_the_fifth_time(
    two: tuple[FakeWave, FakeRemote], source: Connection, to_zendesk: Route
) -> None:
    held(to_zendesk, "vendor_down", timezone.now() + timedelta(minutes=3))
    sweep = turned(begun(source), times=4)
    assert (sweep.state, sweep.failures, sweep.left_out) == ("running", 4, {})
    turned(sweep)
    assert (sweep.state, sweep.left_out, two[1].events) == ("done", {"wave-to-zendesk": "wave-to-zendesk-account is held: vendor_down"}, [])


def test_of_a_destination_that_was_down_one_page_is_the_probe(
    two: tuple[FakeWave, FakeRemote], source: Connection, to_zendesk: Route
) -> None:
    held(to_zendesk, "vendor_down", timezone.now())
    assert outages.is_free(f"connection:{to_zendesk.destination_id}"), "another worker probes"
    assert (turned(begun(source)).state, two[1].events) == ("running", [])
    Hold.objects.update(until=timezone.now())
    two[1].down = Transient("GET /record/many: 503", code="unavailable")
    turned(Sweep.objects.get())
    assert two[1].events == ["observe record 1"]
    assert Hold.objects.get().probing, "the call was the probe"


# --- What is gone ----------------------------------------------------------------------------------------------------


def test_what_was_never_surely_written_of_a_record_that_is_gone_is_marked_too(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, source: Connection
) -> None:
    """A create that gave up without an answer, and what a backfill has adopted, but not what is another business's."""
    wave.put_invoice("1")
    brought(wave, (to_jira, jira))
    before = timezone.now() - timedelta(days=2)
    keys = {number: wave.key("invoice", number) for number in ("2", "3")} | {"4": "wave:another:invoice:4"}
    made = {number: jira.make("record", key, {"number": number, "status": "SENT"}) for number, key in keys.items()}
    for number, key in keys.items():
        adopted = {"remote_id": made[number], "state": "in_doubt"} if number in "34" else {"state": "creating", "begun_at": before}
        Binding.objects.create(route=to_jira, kind="record", key=key, **adopted)
    told = run(source)
    assert [(one["key"], one["reason"]) for one in told["findings"]] == [(keys[number], "deleted") for number in ("2", "3")]
    work()
    assert [str(row["status"]) for row in jira.holds()["record"]] == ["SENT", "DELETED", "DELETED", "SENT"]
    assert found(run(source)) == []


def test_one_that_is_being_created_while_the_lists_are_read_is_not_taken_for_gone(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, source: Connection
) -> None:
    wave.put_invoice("1")
    brought(wave, (to_jira, jira))
    sweep = begun(source)
    Binding.objects.create(route=to_jira, kind="record", key=wave.key("invoice", "2"), state="creating", begun_at=timezone.now())
    assert (turned(sweep).state, reasons(sweep)) == ("done", [])


# --- Workers ---------------------------------------------------------------------------------------------------------


def test_of_two_workers_at_once_one_carries_it_on(five: FakeWave, source: Connection) -> None:
    sweep = begun(source)
    answers: list[bool] = []
    five.after_page = lambda: answers.append(reconcile.carry_on(Sweep.objects.get(pk=sweep.pk), deadline=FAR))
    turned(sweep)
    assert (set(answers), sweep.state) == ({False}, "done")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("phase", ["invoice", "gone invoices"])
def test_a_delivery_about_a_record_that_is_being_asked_for_waits_and_neither_is_thrown_out(
    wave: FakeWave,
    zendesk: FakeRemote,
    jira: FakeRemote,
    to_zendesk: Route,
    to_jira: Route,
    source: Connection,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
) -> None:
    """On PostgreSQL two transactions that ask for the same jobs in another order would wait for each other."""
    wave.put_invoice("1")
    if phase != "invoice":
        brought(wave, (to_zendesk, zendesk), (to_jira, jira))
        wave.invoices.clear()
    told: list[str] = []

    def deliver() -> None:
        try:
            with transaction.atomic():
                ledger.request([asking.ask(source, route, "invoice", wave.key("invoice", "1")) for route in (to_zendesk, to_jira)])
            told.append("taken")
        except OperationalError as error:
            told.append(str(error))
        finally:
            connections.close_all()

    threads, ordinary = [threading.Thread(target=deliver)], findings.note

    def note(*given: Any, **more: Any) -> None:
        ordinary(*given, **more)
        if not told and not threads[0].ident:
            threads[0].start()
            time.sleep(0.5)

    monkeypatch.setattr(findings, "note", note)
    sweep = begun(source)
    Sweep.objects.filter(pk=sweep.pk).update(phase=phase)
    turned(sweep)
    threads[0].join()
    assert (told, sweep.state, sweep.failures) == (["taken"], "done", 0)
    assert SyncJob.objects.filter(kind="invoice").count() == 2


def test_a_crash_between_two_pages_is_followed_by_another_worker_once_the_lease_ends(five: FakeWave, source: Connection) -> None:
    sweep = begun(source)

    def die() -> None:
        if len(five.pages) == 2:
            Sweep.objects.filter(pk=sweep.pk).update(lease_owner="a worker that was killed")
            raise KeyboardInterrupt

    five.after_page = die
    with pytest.raises(KeyboardInterrupt):
        reconcile.carry_on(sweep, deadline=FAR)
    five.after_page = lambda: None
    assert not reconcile.carry_on(sweep, deadline=FAR), "the lease stands"
    assert not reconcile.run_due(budget=5)
    free(sweep)
    turned(sweep)
    assert (sweep.state, SyncJob.objects.count()) == ("done", 6)
    assert reasons(sweep) == [("1", "unbound"), ("2", "unbound"), ("3", "unbound"), ("4", "unbound"), ("5", "unbound"), ("7", "unbound")]


def test_a_worker_that_lost_its_lease_stores_nothing_more(five: FakeWave, source: Connection) -> None:
    sweep = begun(source)

    def take_over() -> None:
        if len(five.pages) == 2:
            Sweep.objects.filter(pk=sweep.pk).update(lease_owner="another worker")

    five.after_page = take_over
    turned(sweep)
    assert (sweep.state, sweep.lease_owner, reasons(sweep)) == ("running", "another worker", [("1", "unbound"), ("2", "unbound")])
    assert SyncJob.objects.count() == 2


@pytest.mark.parametrize("when", ["before the turn", "within it"])
def test_one_whose_route_is_deleted_meanwhile_ends_in_peace(
    five: FakeWave, source: Connection, to_zendesk: Route, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    sweep = begun(source, route=to_zendesk)

    def delete() -> None:
        Route.objects.get(pk=to_zendesk.pk).delete()

    if when == "within it":
        five.after_page = lambda: delete() if len(five.pages) == 2 else None
    else:
        delete()
    assert reconcile.carry_on(sweep, deadline=FAR) == (when == "within it")
    assert len(five.pages) == (2 if when == "within it" else 0), "nothing more is read"
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []
    if when == "within it":
        assert (sweep.state, sweep.problem) == ("cancelled", sweeping.DELETED)
    assert (Sweep.objects.count(), Line.objects.count()) == (0, 0)


def test_a_crash_before_the_very_end_is_ended_by_the_next_turn(five: FakeWave, source: Connection) -> None:
    sweep = begun(source)
    Sweep.objects.filter(pk=sweep.pk).update(phase="")
    turned(sweep)
    assert (sweep.state, Line.objects.count()) == ("done", 0)


def test_a_turn_ends_with_its_time_and_the_next_goes_on(five: FakeWave, source: Connection) -> None:
    sweep = begun(source)
    turns = 0
    while sweep.state == "running" and turns < 20:
        reconcile.carry_on(sweep, deadline=0)
        assert sweep.state == "running"
        reconcile.carry_on(sweep, deadline=FAR)
        turns += 1
    assert (turns, sweep.state) == (1, "done")


# --- Day by day ------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(source: Connection) -> Iterator[time_machine.Traveller]:
    """Yield the clock, with a source that was entered at noon of 27 March 2026, UTC."""
    with time_machine.travel(datetime(2026, 3, 27, 12, tzinfo=UTC), tick=False) as traveller:
        Connection.objects.filter(pk=source.pk).update(created_at=timezone.now())
        yield traveller


# Berlin's clocks go forward on 29 March 2026; Kiritimati is 14 hours ahead of UTC.
DAYS = [
    (
        "Europe/Berlin",
        [("27T22:59", 0), ("27T23:04", 0), ("27T23:05", 1), ("28T23:04", 1), ("28T23:05", 2), ("29T22:04", 2), ("29T22:05", 3)],
    ),
    ("Pacific/Kiritimati", [("28T10:04", 0), ("28T10:05", 1)]),
    ("America/New_York", [("28T04:04", 0), ("28T04:05", 1)]),
    ("", [("28T00:04", 0), ("28T00:05", 1)]),
]


@pytest.mark.parametrize(("zone", "moments"), DAYS, ids=[zone or "none known: UTC" for zone, _ in DAYS])
def test_one_runs_each_day_five_minutes_after_the_businesss_midnight(
    wave: FakeWave,
    zendesk: FakeRemote,
    to_zendesk: Route,
    source: Connection,
    clock: time_machine.Traveller,
    zone: str,
    moments: list[tuple[str, int]],
) -> None:
    Connection.objects.filter(pk=source.pk).update(time_zone=zone)
    for moment, count in moments:
        clock.move_to(datetime.fromisoformat(f"2026-03-{moment}+00:00"), tick=False)
        tasks.reconcile()
        assert Sweep.objects.filter(state="done", started_by="schedule").count() == count, moment


def test_neither_a_dry_run_nor_one_of_a_single_route_nor_one_just_after_midnight_stands_for_the_days(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, source: Connection, clock: time_machine.Traveller
) -> None:
    clock.move_to(datetime(2026, 3, 28, 0, 2, tzinfo=UTC), tick=False)
    run(source)
    clock.move_to(datetime(2026, 3, 28, 0, 5, tzinfo=UTC), tick=False)
    run(source, dry_run=True)
    run(source, route=to_zendesk)
    tasks.reconcile()
    assert Sweep.objects.filter(started_by="schedule").count() == 1


def test_an_account_that_must_be_connected_again_gets_the_days_once_it_is(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, source: Connection, clock: time_machine.Traveller
) -> None:
    Connection.objects.filter(pk=source.pk).update(status=Connection.Status.NEEDS_RECONNECT)
    clock.move_to(datetime(2026, 3, 28, 9, tzinfo=UTC), tick=False)
    tasks.reconcile()
    assert not Sweep.objects.exists()
    Connection.objects.filter(pk=source.pk).update(status=Connection.Status.READY)
    tasks.reconcile()
    assert Sweep.objects.get().state == "done"


def test_a_failed_one_is_tried_again_four_times_ever_later_and_then_the_next_day(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, source: Connection, clock: time_machine.Traveller
) -> None:
    wave.down = Rejected("POST /graphql: 400")
    clock.move_to(datetime(2026, 3, 28, 0, 5, tzinfo=UTC), tick=False)
    begun_at: list[str] = []
    for _ in range(24 * 4 + 1):
        tasks.reconcile()
        begun_at = [f"{one:%d %H:%M}" for one in Sweep.objects.order_by("pk").values_list("created_at", flat=True)]
        clock.shift(timedelta(minutes=15))
    assert begun_at == ["28 00:05", "28 00:20", "28 01:20", "28 04:20", "28 10:20", "29 00:05"]
    wave.down = None
    clock.shift(timedelta(minutes=15))
    tasks.reconcile()
    assert Sweep.objects.latest("pk").state == "done"
    clock.shift(timedelta(hours=7))
    tasks.reconcile()
    assert Sweep.objects.count() == 7, "one that has come to its end stands for the day"


def scheduled(clock: time_machine.Traveller, *, until: datetime, every: timedelta = timedelta(minutes=1)) -> None:
    """Let the schedule run until then."""
    while timezone.now() <= until:
        tasks.reconcile()
        clock.shift(every)


def tries() -> list[tuple[str, str, list[str]]]:
    """Return when each reconcile was begun, of which route, and whom it left out."""
    listed = Sweep.objects.select_related("route").order_by("pk")
    return [(f"{one.created_at:%d %H:%M}", one.route.slug if one.route else "", sorted(one.left_out)) for one in listed]


def test_a_destination_that_was_down_at_midnight_is_looked_at_a_quarter_of_an_hour_after(
    two: tuple[FakeWave, FakeRemote], source: Connection, clock: time_machine.Traveller
) -> None:
    two[1].down = Transient("GET /record/many: 503", code="unavailable")
    clock.move_to(datetime(2026, 3, 28, 0, 5, tzinfo=UTC), tick=False)
    scheduled(clock, until=datetime(2026, 3, 28, 0, 15, tzinfo=UTC))
    two[1].down = None
    scheduled(clock, until=datetime(2026, 3, 28, 9, tzinfo=UTC))
    assert tries() == [("28 00:05", "", ["wave-to-zendesk"]), ("28 00:30", "wave-to-zendesk", [])]
    assert Sweep.objects.latest("pk").state == "done"
    clock.move_to(datetime(2026, 3, 29, 0, 5, tzinfo=UTC), tick=False)
    tasks.reconcile()
    assert tries()[2:] == [("29 00:05", "", [])], "the next day's is for all"


def test_a_destination_that_stays_down_is_tried_four_times_more_each_day(
    two: tuple[FakeWave, FakeRemote], source: Connection, to_zendesk: Route, clock: time_machine.Traveller
) -> None:
    two[1].down = Rejected("GET /record/many: 400")
    clock.move_to(datetime(2026, 3, 28, 0, 5, tzinfo=UTC), tick=False)
    scheduled(clock, until=datetime(2026, 3, 29, 0, 5, tzinfo=UTC), every=timedelta(minutes=15))
    assert [begun_at for begun_at, _, _ in tries()] == ["28 00:05", "28 00:20", "28 01:20", "28 04:20", "28 10:20", "29 00:05"]
    assert [slug for _, slug, _ in tries()] == ["", *["wave-to-zendesk"] * 4, ""]


@pytest.mark.parametrize("how", ["held", "disconnected"])
def test_while_a_destination_cannot_be_called_no_try_is_spent(
    two: tuple[FakeWave, FakeRemote], source: Connection, to_zendesk: Route, clock: time_machine.Traveller, how: str
) -> None:
    connections = Connection.objects.filter(pk=to_zendesk.destination_id)
    clock.move_to(datetime(2026, 3, 28, 0, 5, tzinfo=UTC), tick=False)
    if how == "held":
        held(to_zendesk, "rate_limited", timezone.now() + timedelta(hours=8))
    else:
        connections.update(status=Connection.Status.NEEDS_RECONNECT)
    scheduled(clock, until=datetime(2026, 3, 28, 7, 50, tzinfo=UTC), every=timedelta(minutes=15))
    assert tries() == [("28 00:05", "", ["wave-to-zendesk"])]
    connections.update(status=Connection.Status.READY)
    scheduled(clock, until=datetime(2026, 3, 28, 12, tzinfo=UTC), every=timedelta(minutes=15))
    assert tries()[1:] == [("28 08:05", "wave-to-zendesk", [])]


def test_a_reconcile_by_hand_that_has_looked_at_it_ends_the_tries(
    two: tuple[FakeWave, FakeRemote], source: Connection, to_zendesk: Route, clock: time_machine.Traveller
) -> None:
    two[1].down = Rejected("GET /record/many: 400")
    clock.move_to(datetime(2026, 3, 28, 0, 5, tzinfo=UTC), tick=False)
    tasks.reconcile()
    two[1].down = None
    run(source, route=to_zendesk, dry_run=True)
    clock.shift(timedelta(minutes=5))
    run(source, route=to_zendesk)
    scheduled(clock, until=datetime(2026, 3, 28, 23, tzinfo=UTC), every=timedelta(minutes=15))
    assert len(tries()) == 3


# --- Effort ----------------------------------------------------------------------------------------------------------


def statements(source: Connection) -> int:
    with CaptureQueriesContext(connection) as captured:
        turned(begun(source))
    return len(captured)


@pytest.mark.parametrize("edited", [False, True], ids=["unchanged", "all edited"])
def test_a_hundred_records_more_cost_a_constant_number_of_statements(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, source: Connection, edited: bool
) -> None:
    counts = []
    for size in (100, 200):
        for number in range(size - 100, size):
            wave.put_invoice(str(number), customer="7", modified_at=MODIFIED + timedelta(minutes=number))
        zendesk.objects.clear()
        to_zendesk.bindings.all().delete()
        SyncJob.objects.all().delete()
        brought(wave, (to_zendesk, zendesk))
        for item in zendesk.objects.values():
            item.fields |= {"status": "by hand"} if edited and item.kind == "record" else {}
        counts.append(statements(source))
    assert counts[1] - counts[0] <= (45 if edited else 25)
