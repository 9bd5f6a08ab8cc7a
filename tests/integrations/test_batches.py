import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import DataError, connections, transaction
from django.db.models import F
from django.utils import timezone

from audit import holds, ledger
from audit.models import Attempt, Exchange, SyncJob
from audit.states import State
from integrations import asking, changes, pipeline
from integrations.core.documents import Document
from integrations.core.errors import Disconnected, Rejected, Transient
from integrations.core.records import number_of
from integrations.models import Connection, Route
from tests.fakes import FakeRemote, FakeWave, Fault

Maker = Callable[..., Any]
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
OTHER_BUSINESS = "5f9a7c10-5c1e-4d0c-9c57-2f1d5e5a0002"
WORKERS = 4


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def ask(wave: FakeWave, *routes: Route, number: str, customer: str = "", business: str = "") -> list[SyncJob]:
    """Ask for what a delivery about an invoice asks for."""
    source = routes[0].source
    key = wave.key("invoice", number).replace(wave.uuid, business or wave.uuid)
    customer_key = wave.key("customer", customer).replace(wave.uuid, business or wave.uuid) if customer else ""
    with transaction.atomic():
        found = asking.routes_of(source, invoice_key=key).filter(pk__in=[route.pk for route in routes])
        return ledger.request(asking.asks_for(source, found, "invoice", key, customer_key=customer_key)).jobs


def backlog(wave: FakeWave, count: int, *routes: Route) -> None:
    """Let so many invoices, each of a customer of its own, wait for these routes."""
    for place in range(1, count + 1):
        wave.put_invoice(str(place), customer=str(1000 + place))
        ask(wave, *routes, number=str(place), customer=str(1000 + place))


def drain() -> int:
    return pipeline.drain(started_by="worker", budget=30)


def states(route: Route) -> dict[str, str]:
    """Return the state of each invoice's newest job, by number."""
    jobs = SyncJob.objects.filter(route_id=route.pk, kind="invoice").order_by("created_at")
    return {number_of(job.key): job.state for job in jobs}


def job(route: Route, number: str) -> SyncJob:
    return next(one for one in SyncJob.objects.filter(route_id=route.pk, kind="invoice") if number_of(one.key) == number)


def no_answer() -> Transient:
    return Transient("PUT /record/77: ReadTimeout", code="no_answer")


# --- Reads --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(("waiting", "batches"), [(2, [2]), (20, [20]), (50, [20, 20, 10])])
def test_what_waits_is_read_twenty_to_a_request(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route, waiting: int, batches: list[int]
) -> None:
    backlog(wave, waiting, to_zendesk, to_jira)
    assert drain() == waiting
    assert ([len(batch) for batch in wave.batches], wave.reads) == (batches, [])
    assert wave.batches[0][:2] == [("1", "1001"), ("2", "1002")]
    assert {job.state for job in SyncJob.objects.all()} == {State.SUCCEEDED}
    assert {kind: len(held) for kind, held in zendesk.holds().items()} == {"organization": waiting, "record": waiting}
    assert {kind: len(held) for kind, held in jira.holds().items()} == {"record": waiting}


@pytest.mark.django_db
def test_one_that_waits_alone_costs_an_ordinary_read(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    backlog(wave, 1, to_jira)
    drain()
    assert (wave.reads, wave.batches) == ([("1", "")], [])


@pytest.mark.django_db
def test_named_jobs_are_read_by_themselves(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    backlog(wave, 3, to_jira)
    pipeline.run([job(to_jira, "2").pk], started_by="webhook")
    assert (wave.reads, wave.batches) == ([("2", "")], [])


@pytest.mark.django_db
def test_two_businesses_are_read_apart(wave: FakeWave, jira: FakeRemote, to_jira: Route, wave_connection: Maker, jira_route: Maker) -> None:
    second: Connection = wave_connection("wave-second", business=OTHER_BUSINESS)
    elsewhere: Route = jira_route(second, "second-to-jira")
    for number in ("1", "2", "3"):
        wave.put_invoice(number)
        ask(wave, to_jira, number=number)
        ask(wave, elsewhere, number=number, business=OTHER_BUSINESS)
    drain()
    assert wave.batches == [[("1", ""), ("2", ""), ("3", "")]] * 2


@pytest.mark.django_db
def test_the_read_comes_after_all_claims(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    seen: list[dict[str, str]] = []
    wave.after_read = lambda: seen.append(states(to_jira))
    backlog(wave, 3, to_jira)
    drain()
    assert seen == [dict.fromkeys("123", State.RUNNING)]


@pytest.mark.django_db
def test_fifty_changes_of_each_while_they_run_cost_one_more_read_and_one_more_write_each(
    wave: FakeWave, jira: FakeRemote, to_jira: Route
) -> None:
    def meanwhile() -> None:
        wave.after_read = lambda: None
        for due in range(50):
            for number in "123":
                wave.put_invoice(number, due=f"{due}.00")
                ask(wave, to_jira, number=number)

    backlog(wave, 3, to_jira)
    wave.after_read = meanwhile
    drain()
    assert [len(batch) for batch in wave.batches] == [3, 3]
    assert Counter(write.key for write in jira.writes) == {wave.key("invoice", number): 2 for number in "123"}
    assert {str(held["due"]) for held in jira.holds()["record"]} == {"49.00"}


@pytest.mark.django_db
def test_a_payment_that_must_find_its_invoice_is_run_alone(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    wave.put_invoice("9", payments={"90": "1.00"})
    with transaction.atomic():
        payment = asking.asks_for(to_jira.source, asking.routes_of(to_jira.source), "payment", wave.key("payment", "90"))
        ledger.request(payment)
    backlog(wave, 2, to_jira)
    drain()
    read = [number for batch in wave.batches for number, _ in batch] + [number for number, _ in wave.reads]
    assert sorted(read) == ["1", "2", "9"]
    assert SyncJob.objects.get(kind="payment").reason == "forwarded"
    assert states(to_jira) == dict.fromkeys("129", State.SUCCEEDED)


@pytest.mark.django_db
def test_a_customer_of_several_invoices_is_written_once_and_tells_of_all(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> None:
    for number in "123":
        wave.put_invoice(number)
        ask(wave, to_zendesk, number=number, customer="7")
    drain()
    assert wave.batches == [[("1", "7"), ("2", ""), ("3", "")]]
    assert wave.reads == []
    assert zendesk.events == ["write organization 7", "write record 1", "write record 2", "write record 3"]


@pytest.mark.django_db
def test_the_shared_read_stands_on_every_attempt(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    backlog(wave, 3, to_jira)
    drain()
    read = Exchange.objects.filter(system="wave").values_list("attempt__job__key", "status")
    assert sorted(read) == [(wave.key("invoice", number), 200) for number in "123"]


# --- What fails ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_record_that_cannot_be_read_stops_no_other(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    wave.odd["2"] = Rejected("POST graphql: the answer has another form than ours (ValueError)", code="schema_drift")
    backlog(wave, 4, to_jira)
    drain()
    assert states(to_jira) == {"1": "succeeded", "2": "dead", "3": "succeeded", "4": "succeeded"}
    assert job(to_jira, "2").error_code == "schema_drift"


@pytest.mark.django_db
def test_a_record_that_meets_a_defect_of_ours_stops_no_other(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    def break_at_two(document: Document) -> None:
        if number_of(document.key) == "2":
            raise ZeroDivisionError

    jira.before_write = break_at_two
    backlog(wave, 4, to_jira)
    drain()
    assert states(to_jira) == {"1": "succeeded", "2": "pending", "3": "succeeded", "4": "succeeded"}
    assert job(to_jira, "2").error_code == "internal_error"


@pytest.mark.django_db
def test_what_fails_only_together_is_read_one_by_one(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    wave.batches_fail = Rejected("POST graphql Many: our variables are refused", code="schema_drift")
    wave.odd["3"] = Rejected("POST graphql Invoice: our variables are refused", code="schema_drift")
    backlog(wave, 4, to_jira)
    drain()
    assert (len(wave.batches), wave.reads) == (1, [("1", ""), ("2", ""), ("3", ""), ("4", "")])
    assert states(to_jira) == {"1": "succeeded", "2": "succeeded", "3": "dead", "4": "succeeded"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("error", "calls", "state"),
    [
        (Transient("POST graphql: 500", code="server_error"), (1, 1), "pending"),
        (
            Transient("POST graphql: 429", code="rate_limited", not_before=NOON + timedelta(minutes=1), scope="connection"),
            (1, 0),
            "pending",
        ),
        (Transient("POST graphql: NewConnectionError", code="no_answer", unsent=True), (1, 0), "pending"),
        (Disconnected("POST graphql: the access token is refused"), (1, 0), "blocked"),
    ],
    ids=["down", "limited", "unreachable", "dead grant"],
)
def test_a_source_in_trouble_puts_all_off_and_is_not_asked_twenty_times(
    wave: FakeWave,
    jira: FakeRemote,
    to_jira: Route,
    clock: time_machine.Traveller,
    error: Exception,
    calls: tuple[int, int],
    state: str,
) -> None:
    wave.down = error
    backlog(wave, 20, to_jira)
    drain()
    assert ((len(wave.batches), len(wave.reads)), set(states(to_jira).values()), jira.events) == (calls, {state}, [])


@pytest.mark.django_db
def test_a_destination_that_does_not_answer_is_called_twice_and_holds_up_no_other(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route
) -> None:
    jira.down = no_answer()
    backlog(wave, 20, to_zendesk, to_jira)
    drain()
    assert len(jira.writes) == 2
    assert set(states(to_zendesk).values()) == {"succeeded"}
    assert set(states(to_jira).values()) == {"pending"}
    assert {(one.error_code, one.tries) for one in SyncJob.objects.filter(state=State.PENDING)} == {("no_answer", 1)}
    messages = Counter(Attempt.objects.filter(job__route_id=to_jira.pk).values_list("message", flat=True))
    assert messages == {str(no_answer()): 2, "not called: it did not answer 2 times in a row just now": 18}


@pytest.mark.django_db
def test_a_destination_that_answers_now_and_then_is_called_for_each(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    def hang_at_odd_ones(document: Document) -> None:
        if int(number_of(document.key)) % 2:
            raise no_answer()

    jira.before_write = hang_at_odd_ones
    backlog(wave, 6, to_jira)
    drain()
    assert states(to_jira) == {str(number): "pending" if number % 2 else "succeeded" for number in range(1, 7)}
    assert sorted(jira.of_key("record", wave.key("invoice", "2"))) != []


@pytest.mark.django_db
def test_a_dead_grant_is_met_once_by_a_batch(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route
) -> None:
    jira.down = Disconnected("PUT /record: 401")
    backlog(wave, 5, to_zendesk, to_jira)
    drain()
    assert (len(jira.writes), set(states(to_jira).values()), set(states(to_zendesk).values())) == (1, {"blocked"}, {"succeeded"})


@pytest.mark.django_db
def test_an_account_limit_is_met_once_by_a_batch_and_kept_to(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, clock: time_machine.Traveller
) -> None:
    until = NOON + timedelta(seconds=90)
    jira.faults = [Fault(Transient("PUT /record: 429", code="rate_limited", not_before=until, scope="connection", unsent=True))]
    backlog(wave, 5, to_jira)
    drain()
    assert (len(jira.writes), set(SyncJob.objects.values_list("state", "due_at"))) == (1, {("pending", until)})
    clock.shift(91)
    drain()
    assert set(states(to_jira).values()) == {"succeeded"}


@pytest.mark.django_db
def test_a_hold_that_is_made_meanwhile_is_obeyed_by_those_whose_turn_has_not_come(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route
) -> None:
    def pause(document: Document) -> None:
        holds.hold(f"route:{to_jira.pk}", reason=holds.PAUSED_REASON)

    jira.before_write = pause
    backlog(wave, 3, to_zendesk, to_jira)
    drain()
    assert states(to_jira) == {"1": "succeeded", "2": "pending", "3": "pending"}
    assert set(states(to_zendesk).values()) == {"succeeded"}
    jira.before_write = lambda document: None
    holds.lift(f"route:{to_jira.pk}")
    drain()
    assert set(states(to_jira).values()) == {"succeeded"}


@pytest.mark.django_db
@pytest.mark.parametrize("number", [1, 3], ids=["alone", "with others"])
def test_a_limit_that_another_worker_meets_during_the_read_is_obeyed_to_the_second(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route, clock: time_machine.Traveller, number: int
) -> None:
    until = timezone.now() + timedelta(seconds=90)

    def meet() -> None:
        holds.hold(f"connection:{to_jira.destination_id}", reason="rate_limited", until=until)
        holds.hold(f"connection:{to_jira.source_id}", reason="rate_limited", until=until)

    wave.after_read = meet
    backlog(wave, number, to_zendesk, to_jira)
    drain()
    assert (jira.writes, set(states(to_jira).values()), set(states(to_zendesk).values())) == ([], {"pending"}, {"succeeded"})
    assert set(Attempt.objects.filter(job__route_id=to_jira.pk).values_list("error_code", "message")) == {
        ("budget", "what it would write has been put on hold since it was claimed")
    }
    wave.after_read = lambda: None
    clock.shift(89)
    assert drain() == 0
    clock.shift(1)
    drain()
    assert set(states(to_jira).values()) == {"succeeded"}


# --- Time and claims ----------------------------------------------------------------------------------------------


class Stopwatch:
    """Stands in for `time` in the pipeline; a test puts it forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.mark.django_db
def test_what_the_time_does_not_suffice_for_goes_back_uncounted_and_due_at_once(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Stopwatch()
    monkeypatch.setattr(pipeline, "time", watch)

    def take_long(document: Document) -> None:
        watch.ahead += 16

    jira.before_write = take_long
    backlog(wave, 5, to_jira)
    assert drain() == 5
    assert states(to_jira) == {"1": "succeeded", "2": "succeeded", "3": "pending", "4": "pending", "5": "pending"}
    left = SyncJob.objects.filter(state=State.PENDING)
    assert {(one.tries, one.error_code, one.due_at <= timezone.now()) for one in left} == {(0, "budget", True)}
    assert not Attempt.objects.filter(closed_at=None).exists()
    jira.before_write = lambda document: None
    drain()
    assert set(states(to_jira).values()) == {"succeeded"}
    assert Counter(write.key for write in jira.writes) == {wave.key("invoice", number): 1 for number in "12345"}


@pytest.mark.django_db
def test_a_claim_that_was_given_to_another_worker_meanwhile_is_left_to_it(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    def steal() -> None:
        SyncJob.objects.filter(pk=job(to_jira, "2").pk).update(attempt_number=F("attempt_number") + 1)

    wave.after_read = steal
    backlog(wave, 3, to_jira)
    drain()
    assert states(to_jira) == {"1": "succeeded", "2": "running", "3": "succeeded"}
    assert [number_of(write.key) for write in jira.writes] == ["1", "3"]


@pytest.mark.django_db
def test_jobs_that_a_worker_was_lost_with_run_alone_for_one_of_them_may_have_killed_it(
    wave: FakeWave, jira: FakeRemote, to_jira: Route
) -> None:
    backlog(wave, 4, to_jira)
    SyncJob.objects.filter(pk__in=[job(to_jira, "1").pk, job(to_jira, "3").pk]).update(losses=1)
    drain()
    assert (wave.reads, wave.batches) == ([("1", ""), ("3", "")], [[("2", ""), ("4", "")]])


@pytest.mark.django_db
def test_what_the_database_refuses_for_one_holds_up_no_other(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary = changes.note_many

    def refuse(source_id: int, snapshots: Any) -> list[str]:
        if number_of(snapshots[0].invoice.key) == "2":
            raise DataError("value too long")
        return ordinary(source_id, snapshots)

    monkeypatch.setattr(changes, "note_many", refuse)
    backlog(wave, 4, to_jira)
    with pytest.raises(DataError):
        drain()
    drain()
    assert states(to_jira) == {"1": "succeeded", "2": "running", "3": "succeeded", "4": "succeeded"}


@pytest.mark.django_db
def test_while_others_are_at_work_half_of_what_waits_is_taken(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    backlog(wave, 11, to_jira)
    ledger.claim([job(to_jira, "11").pk], started_by="webhook")
    drain()
    assert [len(batch) for batch in wave.batches] == [5, 2]
    assert len(wave.reads) == 3
    assert states(to_jira) == {str(number): "succeeded" for number in range(1, 11)} | {"11": "running"}


@pytest.mark.django_db(transaction=True)
def test_four_workers_at_one_backlog_run_each_job_once(
    wave: FakeWave, zendesk: FakeRemote, jira: FakeRemote, to_zendesk: Route, to_jira: Route
) -> None:
    backlog(wave, 50, to_zendesk, to_jira)
    start, failures = threading.Barrier(WORKERS), list[BaseException]()

    def work() -> None:
        try:
            start.wait(20)
            drain()
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    workers = [threading.Thread(target=work) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert failures == []
    assert set(SyncJob.objects.values_list("state", "attempt_number")) == {(State.SUCCEEDED, 1)}
    numbers = [str(number) for number in range(1, 51)]
    for remote in (zendesk, jira):
        written = Counter(number_of(write.key) for write in remote.writes if write.kind == "record")
        assert written == dict.fromkeys(numbers, 1)
    assert Counter(write.key for write in zendesk.writes if write.kind == "organization") == {
        wave.key("customer", str(1000 + number)): 1 for number in range(1, 51)
    }
    assert len(wave.batches) + len(wave.reads) < 50
