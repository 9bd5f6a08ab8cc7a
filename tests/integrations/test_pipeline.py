import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.db import connections, transaction
from django_q.models import OrmQ

from audit import holds, ledger
from audit.models import Attempt, Exchange, Hold, SyncJob
from audit.states import State
from integrations import asking, changes, pipeline, systems, tasks
from integrations.core.documents import Document
from integrations.core.errors import Disconnected, Rejected, Transient, Unmappable
from integrations.models import Binding, Connection, Credential, Route
from tests.fakes import FakeRemote, FakeWave, Fault

Maker = Callable[..., Any]
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def changed(wave: FakeWave, *routes: Route, kind: str = "invoice", number: str = "1", customer: str = "") -> list[SyncJob]:
    """Ask for what a delivery about a record asks for, and return the jobs."""
    source = routes[0].source
    key = wave.key(kind, number)
    customer_key = wave.key("customer", customer) if customer else ""
    with transaction.atomic():
        found = asking.routes_of(source, invoice_key=key).filter(pk__in=[route.pk for route in routes])
        return ledger.request(asking.asks_for(source, found, kind, key, customer_key=customer_key)).jobs


def unavailable() -> Transient:
    return Transient("PUT /record: 503", code="unavailable")


def drain() -> int:
    return pipeline.drain(started_by="worker", budget=30)


def job_of(route: Route, kind: str = "invoice") -> SyncJob:
    return SyncJob.objects.filter(route_id=route.pk, kind=kind).latest("created_at", "attempt_number")


def open_job(route: Route) -> SyncJob:
    return SyncJob.objects.get(route_id=route.pk, state=State.PENDING)


def states() -> dict[tuple[str, str], str]:
    return {(job.route_slug, job.kind): job.state for job in SyncJob.objects.order_by("created_at")}


# --- One read -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_one_read_serves_the_invoice_on_all_routes_and_its_customer(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route
) -> None:
    wave.put_invoice()
    changed(wave, to_zendesk, to_jira, customer="7")
    assert drain() == 1
    assert wave.reads == [("1", "7")]
    assert zendesk.holds() == {
        "organization": [{"name": "Customer 7", "owed": Decimal("100.00")}],
        "record": [{"number": "INV-1", "status": "SENT", "due": Decimal("100.00"), "organization": "zendesk-1"}],
    }
    assert jira.holds() == {"record": [{"number": "INV-1", "status": "SENT", "due": Decimal("100.00")}]}
    assert zendesk.events == ["write organization 7", "write record 1"]
    assert states() == {
        ("wave-to-zendesk", "customer"): "succeeded",
        ("wave-to-zendesk", "invoice"): "succeeded",
        ("wave-to-jira", "invoice"): "succeeded",
    }


@pytest.mark.django_db
def test_nothing_due_is_nothing_done(wave: FakeWave, django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(5):
        assert not pipeline.run(started_by="worker")
    assert wave.reads == []


@pytest.mark.django_db
def test_a_second_run_of_everything_reads_once_and_writes_nothing(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route
) -> None:
    wave.put_invoice(payments={"9": "40.00"})
    changed(wave, to_zendesk, to_jira, customer="7")
    drain()
    for recorded in (wave.reads, zendesk.events, jira.events):
        recorded.clear()
    changed(wave, to_zendesk, to_jira)  # the binding knows the customer now
    drain()
    assert (wave.reads, zendesk.events, jira.events) == ([("1", "7")], [], [])


@pytest.mark.django_db
def test_an_invoice_of_an_unknown_customer_asks_for_the_customer(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> None:
    wave.put_invoice()
    changed(wave, to_zendesk)
    assert drain() == 2
    assert wave.reads == [("1", ""), ("", "7")]
    assert job_of(to_zendesk, "customer").derived
    assert zendesk.holds()["organization"] == [{"name": "Customer 7", "owed": Decimal("100.00")}]


@pytest.mark.django_db
def test_an_invoice_that_changes_hands_asks_for_the_old_and_the_new_customer(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route
) -> None:
    wave.put_invoice()
    changed(wave, to_zendesk)
    drain()
    wave.put_invoice(customer="8")
    wave._sum_up("7")
    changed(wave, to_zendesk)
    drain()
    assert zendesk.holds()["organization"] == [
        {"name": "Customer 7", "owed": Decimal(0)},
        {"name": "Customer 8", "owed": Decimal("100.00")},
    ]
    assert Binding.objects.get(kind="record").parent == wave.key("customer", "8")


@pytest.mark.django_db
def test_a_route_without_customers_asks_for_none(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> None:
    Route.objects.update(kinds=["invoice"])
    wave.put_invoice()
    changed(wave, to_zendesk)
    drain()
    assert states() == {("wave-to-zendesk", "invoice"): "succeeded"}


# --- Payments, and records that are not there -----------------------------------------------------------------------


@pytest.mark.django_db
def test_a_payment_without_an_invoice_finds_it_and_is_forwarded(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    wave.put_invoice(payments={"9": "40.00"})
    changed(wave, to_jira, kind="payment", number="9")
    drain()
    payment, invoice = job_of(to_jira, "payment"), job_of(to_jira)
    assert (payment.state, payment.result, payment.reason) == (State.SUCCEEDED, "ignored", "forwarded")
    assert (invoice.state, invoice.key) == (State.SUCCEEDED, wave.key("invoice", "1"))
    assert jira.holds()["payment"] == [{"amount": Decimal("40.00")}]


@pytest.mark.django_db
def test_a_payment_that_does_not_exist_is_ignored(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    changed(wave, to_jira, kind="payment", number="9")
    drain()
    assert [(job.result, job.reason) for job in SyncJob.objects.all()] == [("ignored", "not_found")]


@pytest.mark.django_db
def test_a_record_we_never_mirrored_and_that_does_not_exist_is_ignored(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    changed(wave, to_jira)
    drain()
    assert [(job.state, job.result, job.reason) for job in SyncJob.objects.all()] == [(State.SUCCEEDED, "ignored", "not_found")]


@pytest.mark.django_db
def test_a_deletion_is_believed_after_a_second_look_five_minutes_later(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, clock: time_machine.Traveller
) -> None:
    wave.put_invoice()
    changed(wave, to_zendesk)
    drain()
    wave.invoices.clear()
    wave._sum_up("7")
    clock.shift(10)
    changed(wave, to_zendesk)
    drain()
    looking = open_job(to_zendesk)
    assert (looking.state, looking.second_look, looking.due_at - datetime.now(UTC)) == (State.PENDING, True, timedelta(minutes=5))
    assert zendesk.holds()["record"][0]["status"] == "SENT"
    clock.shift(299)
    assert drain() == 0
    clock.shift(1)
    drain()
    looking.refresh_from_db()
    assert (looking.result, zendesk.holds()["record"][0]["status"]) == ("deleted", "DELETED")
    assert zendesk.holds()["organization"][0]["owed"] == 0


@pytest.mark.django_db
def test_a_record_that_is_back_at_the_second_look_was_never_gone(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, clock: time_machine.Traveller
) -> None:
    wave.put_invoice()
    changed(wave, to_zendesk)
    drain()
    gone = wave.invoices.pop("1")
    changed(wave, to_zendesk)
    drain()
    wave.invoices["1"] = gone
    looking = open_job(to_zendesk)
    clock.shift(300)
    drain()
    looking.refresh_from_db()
    assert (looking.result, zendesk.holds()["record"][0]["status"]) == ("unchanged", "SENT")


@pytest.mark.django_db
def test_more_news_of_a_missing_record_are_no_proof_that_it_is_gone(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, clock: time_machine.Traveller
) -> None:
    wave.put_invoice()
    changed(wave, to_zendesk)
    drain()
    wave.invoices.clear()
    changed(wave, to_zendesk)
    drain()
    clock.shift(2)
    looking = [job.pk for job in changed(wave, to_zendesk) if job.kind == "invoice"]
    pipeline.run(looking, started_by="webhook", redelivery=True)
    assert SyncJob.objects.get(pk=looking[0]).reason == "not_found_yet"
    assert (open_job(to_zendesk).second_look, zendesk.holds()["record"][0]["status"]) == (True, "SENT")


@pytest.mark.django_db
def test_a_job_of_a_route_that_was_deleted_is_ignored(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    wave.put_invoice()
    [job] = changed(wave, to_jira)
    Route.objects.all().delete()
    drain()
    job.refresh_from_db()
    assert (job.state, job.result, job.reason) == (State.SUCCEEDED, "ignored", "no_route")


# --- Failures, by what happens next ---------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("error", "state", "ending"),
    [
        (unavailable(), "pending", "transient"),
        (Rejected("PUT /record: 422", code="invalid", words="Name is Jane's"), "dead", "rejected"),
        (Unmappable("invoice due: no date", code="unmappable"), "dead", "unmappable"),
        (Disconnected("PUT /record: 401"), "blocked", "disconnected"),
    ],
    ids=["transient", "rejected", "unmappable", "disconnected"],
)
def test_an_error_of_the_destination_becomes_the_outcome_of_its_own_job_only(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route, error: Exception, state: str, ending: str
) -> None:
    wave.put_invoice()
    jira.faults = [Fault(error)]
    changed(wave, to_zendesk, to_jira, customer="7")
    drain()
    assert states() == {
        ("wave-to-zendesk", "customer"): "succeeded",
        ("wave-to-zendesk", "invoice"): "succeeded",
        ("wave-to-jira", "invoice"): state,
    }
    attempt = Attempt.objects.get(job=job_of(to_jira))
    assert (attempt.ending, attempt.message, attempt.words) == (ending, str(error), getattr(error, "words", ""))


@pytest.mark.django_db
def test_an_error_of_the_source_is_the_outcome_of_all_jobs_and_no_destination_is_called(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route
) -> None:
    wave.down = Transient("POST /graphql: an HTML page", code="bad_answer")
    changed(wave, to_zendesk, to_jira, customer="7")
    drain()
    assert set(states().values()) == {"pending"}
    assert zendesk.events + jira.events == []


@pytest.mark.django_db
def test_a_defect_of_ours_leaves_the_other_jobs_alone_and_names_no_data(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route, caplog: pytest.LogCaptureFixture
) -> None:
    wave.put_invoice()
    zendesk.defect_of = "invoice"
    changed(wave, to_zendesk, to_jira, customer="7")
    drain()
    assert states() == {
        ("wave-to-zendesk", "customer"): "succeeded",
        ("wave-to-zendesk", "invoice"): "pending",
        ("wave-to-jira", "invoice"): "succeeded",
    }
    broken = job_of(to_zendesk)
    assert (broken.error_code, "somebody's name" in caplog.text + Attempt.objects.get(job=broken).message) == ("internal_error", False)
    assert "ZeroDivisionError in documents" in caplog.text


@pytest.mark.django_db
def test_a_defect_while_reading_puts_the_jobs_off_and_names_no_data(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object) -> bool:
        raise ZeroDivisionError("somebody's name")

    wave.put_invoice()
    monkeypatch.setattr(changes, "note_many", broken)
    [job] = changed(wave, to_zendesk)
    drain()
    job.refresh_from_db()
    assert (job.state, job.error_code, job.tries, zendesk.writes) == (State.PENDING, "internal_error", 1, [])
    assert ("ZeroDivisionError in broken" in caplog.text, "somebody's name" in caplog.text) == (True, False)


@pytest.mark.django_db
def test_a_late_401_does_not_undo_a_reconnect(wave: FakeWave, jira: FakeRemote, to_jira: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    def reconnect(document: Document) -> None:
        Credential.objects.filter(pk=to_jira.destination.credential_id).update(version=2)

    wave.put_invoice()
    monkeypatch.setattr(systems.ConnectionAuth, "version", property(lambda auth: 1))  # the fake destination sends no credentials
    jira.before_write, jira.faults = reconnect, [Fault(Disconnected("PUT /record: 401"))]
    [job] = changed(wave, to_jira)
    drain()
    job.refresh_from_db()
    to_jira.destination.refresh_from_db()
    assert (job.state, job.result, to_jira.destination.status, Hold.objects.count()) == ("succeeded", "created", "ready", 0)
    assert [attempt.error_code for attempt in Attempt.objects.filter(job=job).order_by("number")] == ["reconnected", ""]


@pytest.mark.django_db
def test_a_dead_grant_that_two_connections_share_blocks_the_jobs_of_both(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    other = Connection.objects.create(slug="other", system="jira", auth="oauth", credential=to_jira.destination.credential, status="ready")
    wave.put_invoice()
    jira.faults = [Fault(Disconnected("PUT /record: 401"))]
    changed(wave, to_jira)
    drain()
    held = sorted(Hold.objects.values_list("scope", flat=True))
    assert held == sorted(f"connection:{pk}" for pk in (other.pk, to_jira.destination_id))


@pytest.mark.django_db
def test_the_sweep_frees_a_blocked_job_that_no_dead_grant_covers_any_more(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    wave.put_invoice()
    [job] = changed(wave, to_jira)
    SyncJob.objects.update(state=State.BLOCKED)
    tasks.sweep()
    job.refresh_from_db()
    assert (job.state, len(jira.holds())) == (State.SUCCEEDED, 1)


@pytest.mark.django_db
def test_a_retry_after_is_obeyed_to_the_second(wave: FakeWave, jira: FakeRemote, to_jira: Route, clock: time_machine.Traveller) -> None:
    wave.put_invoice()
    until = NOON + timedelta(seconds=90)
    jira.faults = [Fault(Transient("PUT /record: 429", code="rate_limited", not_before=until, unsent=True))]
    [job] = changed(wave, to_jira)
    drain()
    job.refresh_from_db()
    assert (job.state, job.due_at, job.not_before) == (State.PENDING, until, until)
    clock.shift(89)
    changed(wave, to_jira)
    assert not pipeline.run([job.pk], started_by="webhook", redelivery=True)
    assert drain() == 0
    clock.shift(1)
    assert drain() == 1
    assert job_of(to_jira).state == State.SUCCEEDED


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("scope", "written"), [("", ["1", "2"]), ("object", ["1", "2"]), ("connection", ["1"])], ids=["this job", "this record", "the account"]
)
def test_a_limit_holds_what_the_vendor_says_it_covers(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, clock: time_machine.Traveller, scope: str, written: list[str]
) -> None:
    until = NOON + timedelta(seconds=90)
    jira.faults = [Fault(Transient("PUT /record: 429", code="rate_limited", not_before=until, scope=scope, unsent=True))]
    for number in ("1", "2"):
        wave.put_invoice(number)
        changed(wave, to_jira, number=number)
        clock.shift(1)
    drain()
    assert [write.key.rsplit(":", 1)[-1] for write in jira.writes] == written
    clock.shift(90)
    drain()
    assert len(jira.holds()["record"]) == 2


@pytest.mark.django_db
def test_a_dead_grant_blocks_the_account_and_a_reconnect_resumes_it(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route
) -> None:
    jira.faults = [Fault(Disconnected("PUT /record: 401"))]
    for number in ("1", "2"):
        wave.put_invoice(number)
        changed(wave, to_zendesk, to_jira, number=number, customer="7")
    drain()
    jobs = SyncJob.objects.filter(route_id=to_jira.pk)
    assert [job.state for job in jobs] == [State.BLOCKED] * 2
    account = Connection.objects.get(pk=to_jira.destination_id)
    assert (account.status, len(jira.events)) == (Connection.Status.NEEDS_RECONNECT, 2)  # one look-up, one write
    assert set(SyncJob.objects.filter(route_id=to_zendesk.pk).values_list("state", flat=True)) == {"succeeded"}
    assert [job.pk for job in changed(wave, to_jira)] == [jobs.get(key=wave.key("invoice", "1")).pk]

    assert all(check.ok for check in systems.ping(account))
    drain()
    assert [job.state for job in SyncJob.objects.filter(route_id=to_jira.pk)] == [State.SUCCEEDED] * 2


@pytest.mark.django_db
def test_a_blocked_connection_costs_no_call(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    wave.put_invoice()
    [job] = changed(wave, to_jira)
    holds.block(to_jira.destination_id)
    assert not pipeline.run([job.pk], started_by="webhook", redelivery=True)
    assert (drain(), wave.reads, jira.events) == (0, [], [])


@pytest.mark.django_db
def test_a_paused_route_costs_no_call_and_the_others_go_on(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route
) -> None:
    wave.put_invoice()
    holds.hold(f"route:{to_jira.pk}", reason=holds.PAUSED_REASON)
    changed(wave, to_zendesk, to_jira, customer="7")
    drain()
    assert jira.events == []
    assert states() == {
        ("wave-to-zendesk", "customer"): "succeeded",
        ("wave-to-zendesk", "invoice"): "succeeded",
        ("wave-to-jira", "invoice"): "pending",
    }


@pytest.mark.django_db
def test_five_lost_workers_end_a_poison_record_and_its_connection_lives_on(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, clock: time_machine.Traveller, settings: Any
) -> None:
    class Killed(BaseException):
        pass

    def poison(document: Any) -> None:
        if document.key.endswith(":1"):
            raise Killed

    jira.before_write = poison
    wave.put_invoice("1")
    wave.put_invoice("2")
    changed(wave, to_jira, number="1")
    for _ in range(5):
        with pytest.raises(Killed):
            drain()
        clock.shift(settings.JOB_LEASE + 300)
        ledger.reclaim()
    changed(wave, to_jira, number="2")
    drain()
    dead, healthy = (SyncJob.objects.get(key=wave.key("invoice", number)) for number in ("1", "2"))
    assert (dead.state, dead.error_code, healthy.state) == (State.DEAD, "crashed", State.SUCCEEDED)
    assert Exchange.objects.filter(attempt__job=dead, method="PUT", status=None).count() == 5


@pytest.mark.django_db
def test_half_an_hour_of_redeliveries_against_a_dead_destination_raises_no_tries_and_kills_nothing(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, clock: time_machine.Traveller
) -> None:
    jira.find_lags, jira.down = False, unavailable()
    wave.put_invoice()
    [job] = changed(wave, to_jira)
    for _ in range(30):
        assert pipeline.run([job.pk], started_by="webhook", redelivery=True)
        clock.shift(60)
    job.refresh_from_db()
    assert (job.state, job.tries, job.losses) == (State.PENDING, 0, 0)
    jira.down = None
    pipeline.run([job.pk], started_by="webhook", redelivery=True)
    assert job_of(to_jira).state == State.SUCCEEDED


# --- Coalescing and order -------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_fifty_changes_while_the_job_runs_cost_one_more_read_and_one_more_write(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    wave.put_invoice()

    def meanwhile() -> None:
        wave.after_read = lambda: None
        for due in range(50):
            wave.put_invoice(due=f"{due}.00")
            changed(wave, to_jira)

    wave.after_read = meanwhile
    changed(wave, to_jira)
    drain()
    assert (len(wave.reads), len(jira.writes), jira.holds()["record"][0]["due"]) == (2, 2, Decimal("49.00"))


@pytest.mark.django_db
def test_a_change_while_the_job_fails_supersedes_it_and_waits_its_turn(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, clock: time_machine.Traveller
) -> None:
    wave.put_invoice()
    until = NOON + timedelta(seconds=90)
    jira.faults = [Fault(Transient("PUT /record: 429", code="rate_limited", not_before=until, unsent=True))]

    def meanwhile(document: Any) -> None:
        jira.before_write = lambda document: None
        changed(wave, to_jira)

    jira.before_write = meanwhile
    [old] = changed(wave, to_jira)
    drain()
    new = open_job(to_jira)
    old.refresh_from_db()
    assert (old.state, new.state, new.tries, new.not_before) == (State.SUPERSEDED, State.PENDING, 1, until)
    clock.shift(90)
    drain()
    new.refresh_from_db()
    assert new.state == State.SUCCEEDED


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("first", ["1", "2"])
def test_of_two_invoices_that_change_at_once_the_organization_ends_with_the_newer_sum(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, first: str
) -> None:
    """The first worker has read before the other invoice changes, and writes the organization after the other worker is done."""
    second = {"1": "2", "2": "1"}[first]
    for number in ("1", "2"):
        wave.put_invoice(number)
        changed(wave, to_zendesk, number=number, customer="7")
    drain()
    has_read, may_write = threading.Event(), threading.Event()

    def pause() -> None:
        if threading.current_thread().name == "first":
            has_read.set()
            assert may_write.wait(20)

    def work() -> None:
        try:
            pipeline.run(first_jobs, started_by="worker")
        finally:
            connections.close_all()

    wave.after_read = pause
    wave.put_invoice(first, due="60.00")
    first_jobs = [job.pk for job in changed(wave, to_zendesk, number=first)]
    worker = threading.Thread(target=work, name="first")
    worker.start()
    assert has_read.wait(20)
    wave.put_invoice(second, due="5.00")
    changed(wave, to_zendesk, number=second)
    drain()
    may_write.set()
    worker.join(20)
    drain()
    assert zendesk.holds()["organization"] == [{"name": "Customer 7", "owed": Decimal("65.00")}]
    assert not SyncJob.objects.exclude(state=State.SUCCEEDED).exists()


# --- What is kept ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_every_call_has_an_exchange_on_the_attempts_it_was_made_for(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route
) -> None:
    wave.put_invoice()
    jira.faults = [Fault(Transient("PUT /record: ReadTimeout", code="no_answer"))]
    changed(wave, to_zendesk, to_jira, customer="7")
    drain()
    kept = {
        (job.route_slug, job.kind): [(row.system, row.method, row.path, row.status) for row in job.attempts.get().exchanges.order_by("pk")]
        for job in SyncJob.objects.all()
    }
    read = ("wave", "POST", "/graphql", 200)
    assert kept == {
        ("wave-to-zendesk", "customer"): [read, ("zendesk", "PUT", "/organization", 200)],
        ("wave-to-zendesk", "invoice"): [read, ("zendesk", "PUT", "/record", 200)],
        ("wave-to-jira", "invoice"): [read, ("jira", "GET", "/search", 200), ("jira", "PUT", "/record", None)],
    }


@pytest.mark.django_db
def test_jobs_are_named_after_their_records(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> None:
    wave.put_invoice()
    changed(wave, to_zendesk, customer="7")
    drain()
    invoice, customer = job_of(to_zendesk), job_of(to_zendesk, "customer")
    assert (invoice.title, invoice.party, invoice.amount, invoice.customer_key) == (
        "INV-1",
        "Customer 7",
        "100.00 EUR",
        wave.key("customer", "7"),
    )
    assert (customer.title, customer.party, customer.amount) == ("Customer 7", "Customer 7", "100.00 EUR")


# --- Tasks ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_task_runs_the_named_jobs_and_what_else_is_due(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    wave.put_invoice("1")
    wave.put_invoice("2")
    changed(wave, to_jira, number="1")
    [second] = changed(wave, to_jira, number="2")
    tasks.sync([str(second.pk)])
    assert wave.reads == [("2", ""), ("1", "")]
    tasks.sync(["6f1f6a5e-0000-4000-8000-000000000000"])  # a task for a job that is gone, or run twice
    assert len(wave.reads) == 2


@pytest.mark.django_db
def test_the_sweep_gives_back_lost_jobs_and_runs_them_without_any_task(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, clock: time_machine.Traveller, settings: Any
) -> None:
    wave.put_invoice()
    changed(wave, to_jira)
    OrmQ.objects.all().delete()
    assert ledger.claim(started_by="worker") is not None  # and its worker dies
    tasks.sweep()
    assert wave.reads == []
    clock.shift(settings.JOB_LEASE + 1)
    tasks.sweep()
    assert job_of(to_jira).state == State.SUCCEEDED


@pytest.mark.django_db
def test_a_hold_that_ended_needs_nobody_to_lift_it(wave: FakeWave, jira: FakeRemote, to_jira: Route, clock: time_machine.Traveller) -> None:
    wave.put_invoice()
    changed(wave, to_jira)
    holds.hold(f"connection:{to_jira.destination_id}", reason="rate_limited", until=NOON + timedelta(seconds=5))
    assert drain() == 0
    clock.shift(5)
    assert (drain(), Hold.objects.count()) == (1, 1)
