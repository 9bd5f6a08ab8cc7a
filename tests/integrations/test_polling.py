import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine
from django.db import OperationalError, connections
from django_q.models import OrmQ
from pytest_django import Settings

from audit import holds, ledger, outages
from audit.models import Hold, SyncJob
from audit.states import State
from integrations import health, pausing, pipeline, polling, tasks
from integrations.core import paging
from integrations.core.errors import Disconnected, Rejected, Transient
from integrations.core.records import Changed, Listing
from integrations.models import Binding, Connection, FieldMapping, Intake, Route, ShownCustomer, Watermark
from tests.fakes import FakeRemote, FakeWave

Maker = Callable[..., Any]
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
pytestmark = pytest.mark.django_db


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


@pytest.fixture
def source(wave_connection: Maker, clock: time_machine.Traveller) -> Connection:
    connection: Connection = wave_connection()
    return connection


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def poll_at(clock: time_machine.Traveller, minutes: float) -> int:
    """Move to so many minutes after noon and poll."""
    clock.move_to(at(minutes), tick=False)
    return polling.poll_due(budget=30)


def run() -> None:
    pipeline.drain(started_by="worker", budget=30)


def asked() -> list[tuple[str, str, str]]:
    """Return route, kind and number of every job, in no particular order."""
    return sorted((job.route_slug, job.kind, job.key.rsplit(":", 1)[1]) for job in SyncJob.objects.all())


def mark(kind: str = "customer") -> Watermark:
    return Watermark.objects.get(kind=kind)


# --- What leads to a job ------------------------------------------------------------------------------------------


def test_a_change_without_a_webhook_leads_to_its_jobs(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route, clock: time_machine.Traveller
) -> None:
    wave.put_invoice("1", modified_at=at(1))
    wave.put_customer("7", modified_at=at(1), name="Northwind")
    assert poll_at(clock, 2) == 1
    assert asked() == [("wave-to-jira", "invoice", "1"), ("wave-to-zendesk", "customer", "7"), ("wave-to-zendesk", "invoice", "1")]
    assert OrmQ.objects.count() > 0
    run()
    assert zendesk.holds()["organization"][0]["name"] == "Northwind"
    assert jira.holds()["record"][0]["status"] == "SENT"


def test_what_was_brought_already_makes_no_job_and_costs_two_reads(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route, clock: time_machine.Traveller
) -> None:
    wave.put_customer("7", modified_at=at(1))
    wave.put_invoice("1", modified_at=at(1))
    poll_at(clock, 2)
    run()
    jobs = SyncJob.objects.count()
    for minutes in (4, 6, 60):
        wave.pages.clear()
        assert poll_at(clock, minutes) == 1
        assert [kind for kind, _, _ in wave.pages] == ["customer", "invoice"]
    assert (SyncJob.objects.count(), mark().asked, mark("invoice").asked) == (jobs, {}, {})


def test_a_change_that_nothing_shows_makes_one_job_and_is_known_then(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, clock: time_machine.Traveller
) -> None:
    wave.put_customer("7", modified_at=at(1))
    poll_at(clock, 2)
    run()
    wave.put_customer("7", modified_at=at(3), phone="not mapped")
    poll_at(clock, 4)
    run()
    assert [job.result for job in SyncJob.objects.order_by("created_at")] == ["created", "unchanged"]
    assert Binding.objects.get(kind="organization").source_modified_at == at(3)
    poll_at(clock, 6)
    assert SyncJob.objects.count() == 2


def test_a_stub_is_not_taken_for_an_up_to_date_organization(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, clock: time_machine.Traveller
) -> None:
    wave.put_invoice("1", modified_at=at(1))
    poll_at(clock, 2)
    invoice = SyncJob.objects.filter(kind="invoice").get()
    SyncJob.objects.filter(kind="customer").delete()
    pipeline.run([invoice.pk], started_by="worker")
    SyncJob.objects.filter(kind="customer").delete()
    Watermark.objects.update(asked={})
    wave.put_customer("7", modified_at=at(3))
    poll_at(clock, 4)
    assert SyncJob.objects.filter(kind="customer").count() == 1


def test_a_dead_letter_is_not_asked_for_again_and_again(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, clock: time_machine.Traveller
) -> None:
    zendesk.down = Rejected("PUT /organization: 422")
    wave.put_customer("7", modified_at=at(1))
    poll_at(clock, 2)
    run()
    for minutes in (4, 6, 8, 60):
        poll_at(clock, minutes)
    assert [job.state for job in SyncJob.objects.all()] == [State.DEAD]
    wave.put_customer("7", modified_at=at(61))
    poll_at(clock, 62)
    assert sorted(job.state for job in SyncJob.objects.all()) == [State.DEAD, State.PENDING]


def test_a_route_that_lacks_the_change_is_enough_for_a_job(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, clock: time_machine.Traveller, jira_route: Maker
) -> None:
    wave.put_invoice("1", modified_at=at(1))
    poll_at(clock, 2)
    run()
    jira_route(to_zendesk.source)
    Watermark.objects.update(asked={})
    poll_at(clock, 4)
    assert ("wave-to-jira", "invoice", "1") in asked()


def test_a_paused_routes_jobs_wait(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, clock: time_machine.Traveller) -> None:
    pausing.pause(to_zendesk)
    wave.put_customer("7", modified_at=at(1))
    assert poll_at(clock, 2) == 1
    run()
    assert ([job.state for job in SyncJob.objects.all()], zendesk.writes) == ([State.PENDING], [])
    pausing.resume(to_zendesk)
    run()
    assert len(zendesk.writes) == 1


def test_an_account_without_routes_is_not_polled(wave: FakeWave, source: Connection, clock: time_machine.Traveller) -> None:
    assert (poll_at(clock, 2), wave.pages) == (0, [])


# --- When ---------------------------------------------------------------------------------------------------------


def test_it_is_due_every_poll_seconds(wave: FakeWave, to_jira: Route, clock: time_machine.Traveller, settings: Settings) -> None:
    settings.POLL_SECONDS = 120
    assert [poll_at(clock, minutes) for minutes in (0, 1, 1.9, 2, 3, 4)] == [1, 0, 0, 1, 0, 1]


def test_a_stale_delivery_brings_it_forward_once(wave: FakeWave, to_jira: Route, clock: time_machine.Traveller, settings: Settings) -> None:
    settings.POLL_SECONDS = 3600
    poll_at(clock, 0)
    Intake.objects.update(poll_due_at=at(5))
    assert [poll_at(clock, minutes) for minutes in (4, 6, 7, 59, 60)] == [0, 1, 0, 0, 0]
    assert poll_at(clock, 66) == 1


def test_the_first_poll_begins_where_the_account_was_entered(
    wave: FakeWave, to_jira: Route, jira: FakeRemote, clock: time_machine.Traveller
) -> None:
    wave.put_invoice("1", modified_at=at(-60))
    wave.put_invoice("2", modified_at=at(1))
    poll_at(clock, 120)
    assert asked() == [("wave-to-jira", "invoice", "2")]
    assert mark("invoice").reached == at(1) - paging.STEP_BACK


def test_a_time_in_the_future_hides_nothing(wave: FakeWave, to_jira: Route, clock: time_machine.Traveller) -> None:
    wave.put_invoice("1", modified_at=at(100_000))
    poll_at(clock, 2)
    wave.put_invoice("2", modified_at=at(3))
    poll_at(clock, 4)
    assert asked() == [("wave-to-jira", "invoice", "1"), ("wave-to-jira", "invoice", "2")]


# --- Pages --------------------------------------------------------------------------------------------------------


def test_pages_that_shift_while_they_are_turned_lose_nothing(wave: FakeWave, to_jira: Route, clock: time_machine.Traveller) -> None:
    for number in range(12):
        wave.put_invoice(str(number), modified_at=at(1 + number))
    wave.page_size, moved = 3, iter(range(12))

    def touch_the_oldest() -> None:
        if len(wave.pages) in (2, 3, 4):
            wave.put_invoice(str(next(moved)), modified_at=at(30 + len(wave.pages)))

    wave.after_page = touch_the_oldest
    poll_at(clock, 60)
    assert {number for _, _, number in asked()} == {str(number) for number in range(12)}


# --- More than one tick can read ----------------------------------------------------------------------------------


def tick(wave: FakeWave, clock: time_machine.Traveller, minutes: float, *, most: int = 2) -> int:
    """Poll once, with time for so many pages of invoices; return how many were read."""
    wave.pages.clear()
    wave.down = None

    def time_is_up() -> None:
        if pages(wave) == most:
            wave.down = Transient("POST graphql: the run's time is used up", code="budget", counted=False, unsent=True)

    wave.after_page = time_is_up
    poll_at(clock, minutes)
    return min(most, pages(wave))


def pages(wave: FakeWave) -> int:
    return [kind for kind, _, _ in wave.pages].count("invoice")


@pytest.mark.parametrize(("apart", "most"), [(timedelta(seconds=6), 12), (timedelta(), 18)])
def test_a_burst_is_read_on_tick_by_tick_and_then_left_alone(
    wave: FakeWave, to_jira: Route, clock: time_machine.Traveller, apart: timedelta, most: int
) -> None:
    for number in range(40):
        wave.put_invoice(str(number), modified_at=at(1) + apart * number)
    wave.page_size = 5
    reads, minutes = 0, 6
    while not (Watermark.objects.filter(kind="invoice").exists() and mark("invoice").polled_at):
        reads += tick(wave, clock, minutes)
        minutes += 1
        assert minutes < 30
    assert {number for _, _, number in asked()} == {str(number) for number in range(40)}
    assert reads <= most
    later = [tick(wave, clock, minutes + 2 * number) for number in range(30)]
    assert later[-10:] == [1] * 10


@pytest.mark.parametrize("apart", [timedelta(seconds=6), timedelta()])
def test_what_comes_after_a_burst_is_polled_too(wave: FakeWave, to_jira: Route, clock: time_machine.Traveller, apart: timedelta) -> None:
    for number in range(40):
        wave.put_invoice(str(number), modified_at=at(1) + apart * number)
    wave.put_invoice("new", modified_at=at(6))
    wave.page_size = 5
    for minutes in range(6, 26):
        tick(wave, clock, minutes)
    assert ("wave-to-jira", "invoice", "new") in asked()


def test_a_record_that_slips_past_a_dense_moments_page_before_a_failure_is_found_by_the_next_tick(
    wave: FakeWave, to_jira: Route, clock: time_machine.Traveller
) -> None:
    for number in range(4):
        wave.put_invoice(str(number), modified_at=at(1))
    wave.put_invoice("late", modified_at=at(10))
    wave.page_size = 3

    def shift_and_fail() -> None:
        if pages(wave) == 2:
            wave.put_invoice("0", modified_at=at(30))  # draws 3 forward, onto the page that has been read
        if pages(wave) == 3:
            wave.down = Transient("POST graphql: 500", code="server_error")

    wave.after_page = shift_and_fail
    poll_at(clock, 40)
    assert ("wave-to-jira", "invoice", "3") not in asked()
    wave.down, wave.after_page = None, lambda: None
    poll_at(clock, 41)
    assert ("wave-to-jira", "invoice", "3") in asked()


@pytest.mark.parametrize("minutes", [12, 13.5])
def test_what_shows_late_is_found_though_a_poll_has_failed_before(
    wave: FakeWave, to_jira: Route, clock: time_machine.Traveller, minutes: float
) -> None:
    wave.put_invoice("1", modified_at=at(9))
    poll_at(clock, 10)
    wave.down = Transient("POST graphql: 500", code="server_error")
    poll_at(clock, minutes)
    wave.down = None
    wave.put_invoice("2", modified_at=at(8))
    poll_at(clock, minutes + 1)
    assert ("wave-to-jira", "invoice", "2") in asked()


# --- Several accounts ---------------------------------------------------------------------------------------------


@pytest.fixture
def second(to_jira: Route, wave_connection: Maker, jira_route: Maker) -> Connection:
    """Another account, after the first in every order of rows."""
    connection: Connection = wave_connection(slug="wave-second")
    jira_route(connection, slug="second-to-jira")
    return connection


def polled(source: Connection) -> set[str]:
    return set(Watermark.objects.filter(connection=source).exclude(polled_at=None).values_list("kind", flat=True))


def test_who_uses_up_the_time_is_last_the_next_time(
    wave: FakeWave, to_jira: Route, second: Connection, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page takes all the time that a tick has, and the first account is due again at once."""
    monkeypatch.setattr(polling, "time", SimpleNamespace(monotonic=lambda: 30.0 * len(wave.pages)))
    for minutes in (2, 3, 4, 5):
        Watermark.objects.update(due_at=at(minutes))
        assert poll_at(clock, minutes) == 1
    assert polled(to_jira.source) == polled(second) == {"customer", "invoice"}


def test_a_defect_of_one_account_is_told_there_and_lets_the_others_be_polled(
    wave: FakeWave, to_jira: Route, second: Connection, clock: time_machine.Traveller, caplog: pytest.LogCaptureFixture
) -> None:
    wave.after_page = lambda: 1 / 0 if len(wave.pages) <= 2 else None  # type: ignore[assignment]
    poll_at(clock, 2)
    first = Watermark.objects.filter(connection=to_jira.source)
    assert set(first.values_list("problem", "polled_at")) == {("a defect in this product; the log names its place", None)}
    assert "the poll of wave-main met a defect: ZeroDivisionError" in caplog.text
    assert polled(second) == {"customer", "invoice"}
    poll_at(clock, 3)
    assert polled(to_jira.source) == {"customer", "invoice"}


def test_what_the_database_says_of_one_account_is_raised_once_the_others_are_polled(
    wave: FakeWave, to_jira: Route, second: Connection, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary = polling._store

    def store(this: polling.Poll, turned: Any) -> None:
        if this.source == to_jira.source:
            raise OperationalError
        ordinary(this, turned)

    monkeypatch.setattr(polling, "_store", store)
    with pytest.raises(OperationalError):
        poll_at(clock, 2)
    assert (polled(to_jira.source), polled(second)) == (set(), {"customer", "invoice"})


def test_a_source_that_is_only_slow_is_polled_while_a_job_runs_there(wave: FakeWave, to_jira: Route, clock: time_machine.Traveller) -> None:
    outages.slow_down(f"connection:{to_jira.source_id}")
    assert outages.take_probe(Hold.objects.all(), at(0)) is not None
    assert poll_at(clock, 0.5) == 1


# --- What cannot be read ------------------------------------------------------------------------------------------


def test_a_line_that_cannot_be_read_gets_one_job_and_hides_nothing_behind_it(
    wave: FakeWave, to_jira: Route, clock: time_machine.Traveller
) -> None:
    wave.put_invoice("1", modified_at=at(1))
    wave.put_invoice("2", modified_at=at(2))
    wave.unreadable = {wave.key("invoice", "1")}
    for minutes in (3, 5, 7):
        poll_at(clock, minutes)
    SyncJob.objects.update(state=State.DEAD)
    for minutes in (9, 11, 60):
        poll_at(clock, minutes)
    assert asked() == [("wave-to-jira", "invoice", "1"), ("wave-to-jira", "invoice", "2")]
    assert (mark("invoice").problem, mark("invoice").reached) == ("", at(2) - paging.STEP_BACK)


def test_a_line_that_shows_no_id_is_told_of(
    wave: FakeWave, to_jira: Route, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Listing((Changed(wave.key("invoice", "2"), at(2)),), more=False, unreadable=("",))
    monkeypatch.setattr(FakeWave, "page", lambda self, kind, after, page: shown if kind == "invoice" else Listing((), more=False))
    poll_at(clock, 3)
    assert asked() == [("wave-to-jira", "invoice", "2")]
    assert (mark("invoice").problem, mark("invoice").polled_at) == (polling.PASSED_OVER, at(3))


def test_a_customer_of_whom_only_id_and_time_are_listed_is_not_taken_for_renamed(
    wave: FakeWave, to_zendesk: Route, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = Listing((Changed(wave.key("customer", "7"), at(2)),), more=False)
    monkeypatch.setattr(FakeWave, "page", lambda self, kind, after, page: shown if kind == "customer" else Listing((), more=False))
    poll_at(clock, 3)
    assert asked() == [("wave-to-zendesk", "customer", "7")]
    assert not ShownCustomer.objects.exists()


# --- Failures -----------------------------------------------------------------------------------------------------


def broken(*ids: str) -> None:
    raise OperationalError


def test_a_crash_between_the_jobs_and_the_watermark_loses_nothing(
    wave: FakeWave, to_jira: Route, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave.put_invoice("1", modified_at=at(1))
    with monkeypatch.context() as patched:
        patched.setattr(ledger, "wake", broken)  # after everything else of the transaction
        with pytest.raises(OperationalError):
            poll_at(clock, 2)
    assert (SyncJob.objects.count(), mark("invoice").reached, mark("invoice").asked) == (0, NOON, {})
    poll_at(clock, 3)
    assert asked() == [("wave-to-jira", "invoice", "1")]


def test_a_worker_that_vanished_gives_the_poll_back_when_its_lease_ends(
    wave: FakeWave, to_jira: Route, clock: time_machine.Traveller
) -> None:
    poll_at(clock, 0)
    Watermark.objects.update(lease_until=at(5), lease_owner="gone")
    assert [poll_at(clock, minutes) for minutes in (3, 4, 6)] == [0, 0, 1]


def test_a_lease_that_was_taken_over_stores_nothing(wave: FakeWave, to_jira: Route, clock: time_machine.Traveller) -> None:
    wave.put_invoice("1", modified_at=at(1))

    def take_over() -> None:
        Watermark.objects.update(lease_owner="another")

    wave.after_page = take_over
    poll_at(clock, 2)
    assert (SyncJob.objects.count(), mark("invoice").reached, mark("invoice").lease_owner) == (0, NOON, "another")


def test_what_may_pass_is_tried_again_with_the_next_tick(wave: FakeWave, to_jira: Route, clock: time_machine.Traveller) -> None:
    wave.put_invoice("1", modified_at=at(-1))
    wave.down = Transient("POST graphql: 500", code="server_error")
    poll_at(clock, 1)
    assert (mark("invoice").problem, mark("invoice").reached, mark("invoice").polled_at) == ("POST graphql: 500", NOON, None)
    wave.down = None
    assert poll_at(clock, 2) == 1
    assert (mark("invoice").problem, asked()) == ("", [("wave-to-jira", "invoice", "1")])


def test_the_vendors_own_time_is_kept(wave: FakeWave, to_jira: Route, clock: time_machine.Traveller) -> None:
    wave.down = Transient("POST graphql: 429", code="rate_limited", not_before=at(10), scope="connection")
    poll_at(clock, 1)
    assert len(wave.pages) == 1  # the second kind is held already
    assert [(hold.scope, hold.until) for hold in Hold.objects.all()] == [(f"connection:{to_jira.source_id}", at(10))]
    wave.down = None
    assert [poll_at(clock, minutes) for minutes in (3, 9, 10)] == [0, 0, 1]


def test_a_dead_grant_waits_for_a_person_and_misses_nothing(wave: FakeWave, to_jira: Route, clock: time_machine.Traveller) -> None:
    wave.down = Disconnected("POST graphql: 200 the access token is refused")
    poll_at(clock, 1)
    source = Connection.objects.get(pk=to_jira.source_id)
    assert (source.status, len(wave.pages)) == (Connection.Status.NEEDS_RECONNECT, 1)
    wave.down = None
    wave.put_invoice("1", modified_at=at(2))
    assert (poll_at(clock, 4), len(wave.pages)) == (0, 1)
    Connection.objects.update(status=Connection.Status.READY)
    holds.release(source.pk)
    poll_at(clock, 60)
    assert asked() == [("wave-to-jira", "invoice", "1")]


def test_it_waits_a_moment_for_a_free_slot(
    wave: FakeWave, to_jira: Route, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave.put_invoice("1", modified_at=at(1))
    wave.down = Transient("waiting for a free slot", code="limit", not_before=at(2) + timedelta(seconds=1), counted=False)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        wave.down = None

    monkeypatch.setattr(time, "sleep", sleep)
    poll_at(clock, 2)
    assert (slept, asked()) == ([1.0], [("wave-to-jira", "invoice", "1")])


@pytest.mark.django_db(transaction=True)
def test_two_pollers_at_once_poll_once(wave: FakeWave, to_jira: Route, to_zendesk: Route, clock: time_machine.Traveller) -> None:
    wave.put_invoice("1", modified_at=at(1))
    clock.move_to(at(2), tick=True)
    start = threading.Barrier(4)

    def work() -> None:
        try:
            start.wait()
            tasks.poll()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(kind for kind, _, _ in wave.pages) == ["customer", "invoice"]
    assert SyncJob.objects.count() == 3


# --- Who shows it too ---------------------------------------------------------------------------------------------


@pytest.fixture
def shows_customer(to_jira: Route) -> Route:
    FieldMapping.objects.create(route=to_jira, kind="invoice", target="summary", template="{{ customer.name }}")
    return to_jira


def synced(wave: FakeWave, clock: time_machine.Traveller, **invoice: Any) -> None:
    """Bring invoices 1 (open) and 2 (paid) of customer 7."""
    wave.put_customer("7", modified_at=at(1))
    wave.put_invoice("1", modified_at=at(1))
    wave.put_invoice("2", modified_at=at(1), status="PAID", due="0.00")
    poll_at(clock, 2)
    run()
    SyncJob.objects.all().delete()


def test_a_renamed_customer_asks_for_the_open_invoices_that_show_the_name(
    wave: FakeWave, jira: FakeRemote, shows_customer: Route, clock: time_machine.Traveller
) -> None:
    synced(wave, clock)
    wave.put_customer("7", modified_at=at(3), name="Northwind & Daughters")
    poll_at(clock, 4)
    assert asked() == [("wave-to-jira", "invoice", "1")]
    run()
    poll_at(clock, 6)
    assert asked() == [("wave-to-jira", "invoice", "1")]


@pytest.mark.parametrize("change", [{"phone": "+1 416 555 0199"}, {"website": "example.com"}])
def test_what_no_invoice_shows_asks_for_none(
    wave: FakeWave, jira: FakeRemote, shows_customer: Route, clock: time_machine.Traveller, change: dict[str, str]
) -> None:
    synced(wave, clock)
    wave.put_customer("7", modified_at=at(3), **change)
    poll_at(clock, 4)
    assert asked() == []


def test_templates_that_do_not_name_the_customer_need_nothing(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, clock: time_machine.Traveller
) -> None:
    FieldMapping.objects.create(route=to_jira, kind="invoice", target="summary", template="{{ invoice.number }}")
    synced(wave, clock)
    wave.put_customer("7", modified_at=at(3), name="Northwind & Daughters")
    poll_at(clock, 4)
    assert asked() == []


def test_a_read_that_meets_the_new_name_asks_too(
    wave: FakeWave, jira: FakeRemote, zendesk: FakeRemote, shows_customer: Route, to_zendesk: Route, clock: time_machine.Traveller
) -> None:
    synced(wave, clock)
    wave.put_customer("7", modified_at=at(3), name="Northwind & Daughters")
    wave.put_invoice("3", modified_at=at(3))
    Watermark.objects.filter(kind="customer").update(due_at=at(600))
    poll_at(clock, 4)
    run()
    assert ("wave-to-jira", "invoice", "1") in asked()
    assert ("wave-to-jira", "invoice", "2") not in asked()


# --- What is told of it -------------------------------------------------------------------------------------------


def test_health_tells_how_the_polls_do(wave: FakeWave, to_jira: Route, clock: time_machine.Traveller) -> None:
    poll_at(clock, 0)
    assert told(to_jira.source) == [("ok", "just now"), ("ok", "just now")]
    wave.down = Transient("POST graphql: 500", code="server_error")
    poll_at(clock, 3)
    assert told(to_jira.source) == [("warning", "3 min ago: POST graphql: 500")] * 2
    clock.move_to(at(20), tick=False)
    assert told(to_jira.source) == [("warning", "20 min ago")] * 2


def told(source: Connection) -> list[tuple[str, str]]:
    return [(line.level, line.detail) for line in health.of(source).work if line.name.startswith("poll")]
