from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.db import transaction

from audit import ledger, trail
from audit.models import Attempt, Exchange, SyncJob
from audit.states import State
from integrations import asking, bindings, pipeline
from integrations.core.errors import Missing, Rejected, Transient
from integrations.models import Binding, FieldMapping, Route
from tests.fakes import FakeRemote, FakeWave, Fault, Write

pytestmark = pytest.mark.django_db

Maker = Callable[..., Any]
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
NOT_SENT = Transient("PUT /record: ConnectTimeout", code="no_answer", unsent=True)
OWED = Decimal("100.00")


@pytest.fixture(autouse=True)
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def timed_out() -> Transient:
    return Transient("PUT /record: ReadTimeout", code="no_answer")


def ask(wave: FakeWave, route: Route, kind: str = "invoice", number: str = "1", **more: Any) -> SyncJob:
    with transaction.atomic():
        asked = ledger.request([asking.ask(route.source, route, kind, wave.key(kind, number), **more)])
    return asked.jobs[0]


def bring(wave: FakeWave, route: Route, kind: str = "invoice", number: str = "1", **more: Any) -> SyncJob:
    """Ask for one record, run it once, and return the job as it is then."""
    job = ask(wave, route, kind, number, **more)
    assert pipeline.run([job.pk], started_by="worker")
    return SyncJob.objects.get(pk=job.pk)


def again(job: SyncJob, clock: time_machine.Traveller) -> SyncJob:
    """Run a pending job once more when it is due."""
    due_at = SyncJob.objects.get(pk=job.pk).due_at
    clock.move_to(max(due_at, datetime.now(UTC)))
    assert pipeline.run([job.pk], started_by="worker")
    return SyncJob.objects.get(pk=job.pk)


def binding(kind: str) -> Binding:
    return Binding.objects.get(kind=kind)


# --- Write what differs, and nothing else -------------------------------------------------------------------------


def test_a_new_invoice_makes_its_record_and_payments_and_the_organization_it_points_at(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route
) -> None:
    wave.put_invoice(payments={"9": "40.00"})
    job = bring(wave, to_zendesk)
    assert (job.state, job.result) == (State.SUCCEEDED, "created")
    assert zendesk.holds() == {
        "organization": [{"name": "Customer 7"}],
        "record": [{"number": "INV-1", "status": "SENT", "due": OWED, "organization": "zendesk-1"}],
        "payment": [{"amount": Decimal("40.00")}],
    }
    parents = {row.kind: (row.parent, row.state) for row in Binding.objects.all()}
    assert parents == {
        "organization": ("", "bound"),
        "record": (wave.key("customer", "7"), "bound"),
        "payment": (wave.key("invoice", "1"), "bound"),
    }


def test_a_second_run_writes_nothing(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> None:
    wave.put_invoice(payments={"9": "40.00"})
    bring(wave, to_zendesk)
    zendesk.events.clear()
    assert bring(wave, to_zendesk).result == "unchanged"
    assert zendesk.events == []


def test_a_change_writes_all_fields_of_what_differs_and_only_that(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> None:
    wave.put_invoice(payments={"9": "40.00"})
    bring(wave, to_zendesk)
    zendesk.writes.clear()
    wave.put_invoice(status="PAID", payments={"9": "40.00"})
    assert bring(wave, to_zendesk).result == "updated"
    whole = {"number": "INV-1", "status": "PAID", "due": OWED, "organization": "zendesk-1"}
    assert zendesk.writes == [Write("record", wave.key("invoice", "1"), "zendesk-2", whole)]


def test_force_writes_what_seems_unchanged(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> None:
    wave.put_invoice()
    bring(wave, to_zendesk)
    zendesk.objects["zendesk-2"].fields["status"] = "edited by hand"
    bring(wave, to_zendesk, force=True)
    assert zendesk.objects["zendesk-2"].fields["status"] == "SENT"


def test_the_customers_run_completes_the_organization_that_an_invoice_made(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> None:
    wave.put_invoice()
    bring(wave, to_zendesk)
    assert bring(wave, to_zendesk, "customer", "7").result == "updated"
    assert zendesk.holds()["organization"] == [{"name": "Customer 7", "owed": OWED}]


@pytest.mark.parametrize(("first", "second"), [("customer", "invoice"), ("invoice", "customer")])
def test_an_organization_that_the_vendor_tells_to_wait_is_written_by_no_job_before(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, clock: time_machine.Traveller, first: str, second: str
) -> None:
    wave.put_customer("9")
    wave.put_invoice("1", customer="9")
    until = datetime.now(UTC) + timedelta(seconds=60)
    zendesk.faults = [
        Fault(Transient("POST: 429", code="rate_limited", not_before=until, scope="object", unsent=True), kind="organization")
    ]
    numbers = {"customer": "9", "invoice": "1"}
    for kind in (first, second):
        pipeline.run([ask(wave, to_zendesk, kind, numbers[kind]).pk], started_by="worker")
    assert zendesk.holds() == {}
    assert [event for event in zendesk.events if event.startswith("write")] == ["write organization 9"]
    clock.move_to(until)
    pipeline.drain(started_by="worker", budget=60)
    assert set(SyncJob.objects.values_list("state", "tries")) == {(State.SUCCEEDED, 0)}


def test_a_mapping_that_was_taken_away_is_sent_as_null_once(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> None:
    row = FieldMapping.objects.create(route=to_zendesk, kind="customer", target="tier", template="gold")
    wave.put_customer()
    bring(wave, to_zendesk, "customer", "7")
    row.delete()
    zendesk.writes.clear()
    results = [bring(wave, to_zendesk, "customer", "7").result for _ in range(2)]
    assert results == ["updated", "unchanged"]
    assert [write.fields for write in zendesk.writes] == [{"name": "Customer 7", "owed": None, "tier": None}]


def test_a_field_that_the_destination_does_not_take_rests_until_it_is_mended(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route
) -> None:
    row = FieldMapping.objects.create(route=to_zendesk, kind="customer", target="tier", template="gold")
    zendesk.refused = {"tier": "no such field"}
    wave.put_customer()
    first = bring(wave, to_zendesk, "customer", "7")
    row.refresh_from_db()
    assert (first.state, first.notes, row.problem) == (State.SUCCEEDED, ["field_dropped"], "no such field")
    assert bring(wave, to_zendesk, "customer", "7").result == "unchanged"
    zendesk.refused = {}
    FieldMapping.objects.update(problem="")
    bring(wave, to_zendesk, "customer", "7")
    assert zendesk.holds()["organization"] == [{"name": "Customer 7", "owed": None, "tier": "gold"}]


def test_payments_that_the_invoice_no_longer_has_are_removed(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> None:
    wave.put_invoice(payments={"9": "40.00", "10": "60.00"})
    bring(wave, to_zendesk)
    wave.put_invoice(payments={"10": "60.00"})
    assert bring(wave, to_zendesk).result == "updated"
    assert zendesk.holds()["payment"] == [{"amount": Decimal("60.00")}]
    assert Binding.objects.filter(kind="payment").count() == 1
    assert bring(wave, to_zendesk).result == "unchanged"


@pytest.mark.parametrize("lags", [False, True])
def test_a_payment_whose_creation_was_not_answered_is_removed_too(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, clock: time_machine.Traveller, lags: bool
) -> None:
    wave.put_invoice()
    bring(wave, to_jira)
    wave.put_invoice(payments={"9": "40.00"})
    jira.hidden_when_made = lags
    jira.faults = [Fault(timed_out(), committed=True, kind="payment")]
    job = bring(wave, to_jira)
    assert (job.state, len(jira.holds()["payment"])) == (State.PENDING, 1)
    wave.put_invoice(payments={})
    if lags:
        job = again(job, clock)
        assert (job.state, job.error_code) == (State.PENDING, "create_in_doubt")
        for item in jira.objects.values():
            item.hidden = False
    assert again(job, clock).state == State.SUCCEEDED
    assert ("payment" in jira.holds(), Binding.objects.filter(kind="payment").exists()) == (False, False)


def test_payments_are_left_alone_where_they_are_not_shown(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> None:
    wave.put_invoice(payments={"9": "40.00"})
    bring(wave, to_zendesk)
    Route.objects.update(kinds=["customer", "invoice"])
    wave.put_invoice(payments={})
    bring(wave, to_zendesk)
    assert zendesk.holds()["payment"] == [{"amount": Decimal("40.00")}]


# --- Doubt --------------------------------------------------------------------------------------------------------


def test_the_exchange_is_entered_and_the_intent_committed_before_the_write_goes_out(
    wave: FakeWave, jira: FakeRemote, to_jira: Route
) -> None:
    seen: list[tuple[Any, ...]] = []

    def look(document: Any) -> None:
        exchange = Exchange.objects.get(method="PUT")
        seen.append((exchange.path, exchange.status, binding("record").state, binding("record").remote_id))

    jira.before_write = look
    wave.put_invoice()
    bring(wave, to_jira)
    assert seen == [("/record", None, "creating", "")]
    assert Exchange.objects.get(method="PUT").status == 200


def test_an_update_that_was_carried_out_without_an_answer_is_written_again_although_the_source_went_back(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, clock: time_machine.Traveller
) -> None:
    wave.put_invoice(status="SENT")
    bring(wave, to_zendesk)
    wave.put_invoice(status="PAID")
    zendesk.faults = [Fault(timed_out(), committed=True)]
    job = bring(wave, to_zendesk)
    assert (job.state, binding("record").state, zendesk.holds()["record"][0]["status"]) == (State.PENDING, "in_doubt", "PAID")
    wave.put_invoice(status="SENT")
    assert again(job, clock).state == State.SUCCEEDED
    assert (binding("record").state, zendesk.holds()["record"][0]["status"]) == ("bound", "SENT")


@pytest.mark.parametrize("error", [NOT_SENT, Rejected("PUT /record: 422")], ids=["not sent", "refused"])
def test_a_write_that_was_surely_not_carried_out_leaves_no_doubt(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, error: Exception
) -> None:
    wave.put_invoice(status="SENT")
    bring(wave, to_zendesk)
    wave.put_invoice(status="PAID")
    zendesk.faults = [Fault(error)]
    bring(wave, to_zendesk)
    assert binding("record").state == "bound"


@pytest.mark.parametrize("error", [NOT_SENT, Rejected("PUT /record: 422")], ids=["not sent", "refused"])
def test_a_create_that_was_surely_not_carried_out_leaves_no_binding(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, error: Exception
) -> None:
    wave.put_invoice()
    jira.faults = [Fault(error)]
    bring(wave, to_jira)
    assert list(Binding.objects.all()) == []


def test_a_create_without_an_answer_is_looked_for_until_the_index_shows_it(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, clock: time_machine.Traveller
) -> None:
    wave.put_invoice()
    jira.faults, jira.hidden_when_made = [Fault(timed_out(), committed=True)], True
    job = bring(wave, to_jira)
    looked = []
    for _ in range(3):
        looked.append((SyncJob.objects.get(pk=job.pk).due_at - NOON).total_seconds())
        job = again(job, clock)
        assert job.state == State.PENDING
    jira.objects["jira-1"].hidden = False
    assert again(job, clock).state == State.SUCCEEDED
    assert looked == [5, 15, 35]
    assert jira.holds() == {"record": [{"number": "INV-1", "status": "SENT", "due": OWED}]}
    assert (binding("record").state, binding("record").remote_id) == ("bound", "jira-1")


def test_a_create_that_no_look_up_ever_shows_is_made_again_after_two_minutes(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, clock: time_machine.Traveller
) -> None:
    wave.put_invoice()
    jira.faults = [Fault(timed_out())]
    job = bring(wave, to_jira)
    while job.state == State.PENDING:
        job = again(job, clock)
    assert job.state == State.SUCCEEDED
    assert timedelta(seconds=120) <= datetime.now(UTC) - NOON <= timedelta(seconds=150)
    assert len(jira.objects) == 1


def test_waiting_for_the_index_spends_no_try(wave: FakeWave, jira: FakeRemote, to_jira: Route, clock: time_machine.Traveller) -> None:
    wave.put_invoice()
    jira.faults = [Fault(timed_out())]
    job = bring(wave, to_jira)
    assert again(again(job, clock), clock).tries == job.tries == 1


def test_a_create_whose_answer_and_worker_were_lost_while_the_index_lags_makes_one_object(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, clock: time_machine.Traveller, settings: Any
) -> None:
    class Killed(BaseException):
        pass

    def die(*args: Any) -> None:
        raise Killed

    wave.put_invoice()
    jira.hidden_when_made = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bindings, "done", die)  # the vendor has created; the worker dies before it has noted that
        with pytest.raises(Killed):
            bring(wave, to_jira)
    assert (binding("record").state, len(jira.objects)) == ("creating", 1)
    clock.shift(settings.JOB_LEASE + 1)
    assert ledger.reclaim() == 1
    [job] = SyncJob.objects.all()
    assert again(job, clock).state == State.PENDING  # the last look-up is still ahead
    jira.objects["jira-1"].hidden = False
    assert again(job, clock).state == State.SUCCEEDED
    assert list(jira.objects) == ["jira-1"]


def test_without_any_memory_a_look_up_comes_before_the_create(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    invoice = wave.put_invoice()
    jira.make("record", invoice.key, {"number": "INV-1", "status": "old"})
    assert bring(wave, to_jira).state == State.SUCCEEDED
    assert jira.events == ["find record 1", "write record 1"]
    assert jira.holds() == {"record": [{"number": "INV-1", "status": "SENT", "due": OWED}]}


def test_a_record_born_within_our_unbroken_memory_needs_no_look_up(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, clock: time_machine.Traveller
) -> None:
    jira.find_lags = False
    trail.beat()
    wave.put_invoice(created_at=NOON + timedelta(minutes=6))
    clock.shift(600)
    trail.beat()
    bring(wave, to_jira)
    assert jira.events == ["find record 1", "write record 1"]  # a heartbeat gap: our memory begins only now
    wave.put_invoice("2", created_at=NOON + timedelta(minutes=16))
    clock.shift(100)
    trail.beat()
    jira.events.clear()
    clock.shift(100)
    trail.beat()
    bring(wave, to_jira, number="2")
    assert jira.events == ["write record 2"]


def test_two_objects_with_one_key_are_shown_to_a_person(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    invoice = wave.put_invoice()
    for _ in range(2):
        jira.make("record", invoice.key, {})
    job = bring(wave, to_jira)
    assert (job.state, job.error_code, job.attempts.get().words) == (State.DEAD, "twins", "jira-1, jira-2")
    assert jira.writes == []


def test_an_answer_that_refuses_nothing_lets_the_next_run_create_after_one_look(
    wave: FakeWave, jira: FakeRemote, to_jira: Route, clock: time_machine.Traveller
) -> None:
    jira.find_lags = False
    wave.put_invoice()
    jira.faults = [Fault(Transient("PUT /record: 503", code="unavailable"))]
    job = again(bring(wave, to_jira), clock)
    assert (job.state, jira.events) == (State.SUCCEEDED, ["find record 1", "write record 1", "find record 1", "write record 1"])


# --- What has vanished --------------------------------------------------------------------------------------------


def test_a_vanished_object_is_lost_and_waits_for_a_person(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    wave.put_invoice()
    bring(wave, to_jira)
    jira.objects.clear()
    wave.put_invoice(status="PAID")
    first = bring(wave, to_jira)
    second = bring(wave, to_jira)
    assert [(job.state, job.error_code) for job in (first, second)] == [(State.DEAD, "missing"), (State.DEAD, "lost")]
    assert (binding("record").state, jira.objects) == ("lost", {})


def test_a_forced_replay_makes_a_vanished_object_anew(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    wave.put_invoice()
    bring(wave, to_jira)
    jira.objects.clear()
    wave.put_invoice(status="PAID")
    bring(wave, to_jira)
    assert bring(wave, to_jira, force=True).state == State.SUCCEEDED
    assert jira.holds() == {"record": [{"number": "INV-1", "status": "PAID", "due": OWED}]}
    assert (binding("record").state, binding("record").remote_id) == ("bound", "jira-2")


def test_a_vanished_payment_is_made_again(wave: FakeWave, jira: FakeRemote, to_jira: Route) -> None:
    wave.put_invoice(payments={"9": "40.00"})
    bring(wave, to_jira)
    jira.objects.pop(binding("payment").remote_id)
    wave.put_invoice(payments={"9": "45.00"})
    assert bring(wave, to_jira).state == State.SUCCEEDED
    assert jira.holds()["payment"] == [{"amount": Decimal("45.00")}]


# --- Deletions ----------------------------------------------------------------------------------------------------


def test_an_invoice_gone_twice_is_marked(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> None:
    wave.put_invoice()
    bring(wave, to_zendesk)
    wave.invoices.clear()
    job = bring(wave, to_zendesk, second_look=True)
    assert (job.state, job.result) == (State.SUCCEEDED, "deleted")
    assert zendesk.holds()["record"] == [{"number": "INV-1", "status": "DELETED", "due": OWED, "organization": "zendesk-1"}]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("seen", [False, True], ids=["found out now", "known to be lost"])
def test_an_invoice_that_is_gone_needs_no_mark_where_somebody_has_deleted_its_object(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, seen: bool, force: bool
) -> None:
    wave.put_invoice()
    bring(wave, to_zendesk)
    [remote_id] = [one for one, held in zendesk.objects.items() if held.kind == "record"]
    del zendesk.objects[remote_id]
    if seen:
        Binding.objects.filter(kind="record").update(state=Binding.State.LOST)
    del wave.invoices["1"]
    assert bring(wave, to_zendesk, force=force).reason == "not_found_yet"
    SyncJob.objects.filter(state=State.PENDING).update(due_at=NOON)
    assert pipeline.run(started_by="worker")
    assert set(SyncJob.objects.filter(kind="invoice").values_list("state", flat=True)) <= {State.SUCCEEDED, State.SUPERSEDED}


def test_a_mark_without_an_answer_is_forgotten_when_its_object_turns_out_to_be_deleted(
    wave: FakeWave, jira: FakeRemote, to_jira: Route
) -> None:
    jira.marks_apart = True
    wave.put_invoice()
    bring(wave, to_jira)
    del wave.invoices["1"]
    assert bring(wave, to_jira).reason == "not_found_yet"
    jira.faults = [Fault(Transient("PUT /issue: cut short"), kind="mark"), Fault(Missing("GET /issue: 404"), kind="mark")]
    for _ in range(2):
        SyncJob.objects.filter(state=State.PENDING).update(due_at=NOON)
        assert pipeline.run(started_by="worker")
    assert SyncJob.objects.filter(result="deleted", state=State.SUCCEEDED).count() == 1
    assert list(Binding.objects.values_list("kind", "state")) == [("record", Binding.State.LOST)]


def test_a_deletion_that_the_route_wants_carried_out_removes_the_record_with_its_payments(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route
) -> None:
    wave.put_invoice(payments={"9": "40.00"})
    bring(wave, to_zendesk)
    Route.objects.update(options={"on_delete": "delete"})
    wave.invoices.clear()
    assert bring(wave, to_zendesk, second_look=True).result == "deleted"
    assert list(zendesk.holds()) == ["organization"]
    assert list(Binding.objects.values_list("kind", flat=True)) == ["organization"]


def test_a_deleted_invoice_that_comes_back_is_written_whole(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> None:
    wave.put_invoice()
    bring(wave, to_zendesk)
    gone = wave.invoices.pop("1")
    bring(wave, to_zendesk, second_look=True)
    wave.invoices["1"] = gone
    assert bring(wave, to_zendesk).result == "updated"
    assert zendesk.holds()["record"][0]["status"] == "SENT"


# --- Two at one object --------------------------------------------------------------------------------------------


def test_an_object_that_a_live_worker_is_creating_is_waited_for_without_spending_a_try(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route
) -> None:
    wave.put_invoice("1")
    wave.put_invoice("2")
    met: list[SyncJob] = []

    def meanwhile(document: Any) -> None:
        if document.kind == "organization" and not met:
            met.append(ask(wave, to_zendesk, number="2"))
            pipeline.run([met[0].pk], started_by="worker")

    zendesk.before_write = meanwhile
    assert bring(wave, to_zendesk, number="1").state == State.SUCCEEDED
    waiting = SyncJob.objects.get(pk=met[0].pk)
    assert (waiting.state, waiting.error_code, waiting.tries) == (State.PENDING, "creating_elsewhere", 0)
    assert (waiting.due_at - NOON).total_seconds() == 2
    assert len(zendesk.holds()["organization"]) == 1


def test_what_a_live_worker_is_writing_is_not_forgotten_by_another(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> None:
    wave.put_invoice()
    job = bring(wave, to_zendesk)
    other = bindings.Writer(to_zendesk.pk, job, Attempt(job=job, number=2, claim=uuid4()))
    met: list[str] = []

    def meanwhile(document: Any) -> None:
        with pytest.raises(Transient, match="another job is writing"):
            bindings.forget_unless_written(binding("organization"), other)
        met.append(document.kind)

    zendesk.before_write = meanwhile
    assert bring(wave, to_zendesk, "customer", "7").state == State.SUCCEEDED
    assert met == ["organization"]
    bindings.forget_unless_written(binding("organization"), other)
    assert not Binding.objects.filter(kind="organization").exists()


def test_a_job_that_finds_its_object_made_meanwhile_reads_again(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, clock: time_machine.Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave.put_customer(name="Old Name")
    ordinary, met = bindings.begin, list[SyncJob]()

    def meanwhile(*args: Any, **more: Any) -> bindings.Begun:
        if not met:
            wave.put_customer(name="New Name")
            wave.put_invoice("1")
            met.append(ask(wave, to_zendesk, number="1"))
            pipeline.run([met[0].pk], started_by="worker")
        return ordinary(*args, **more)

    monkeypatch.setattr(bindings, "begin", meanwhile)
    job = bring(wave, to_zendesk, "customer", "7")
    assert (job.state, job.error_code, job.tries) == (State.SUPERSEDED, "made_elsewhere", 0)  # the invoice asked for the customer too
    assert [fields["name"] for fields in zendesk.holds()["organization"]] == ["New Name"]


def test_a_worker_taken_for_dead_takes_no_binding_with_it(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, clock: time_machine.Traveller, settings: Any
) -> None:
    wave.put_customer()
    late: list[Any] = []

    def slow(document: Any) -> None:
        if not late:
            late.append(document)
            clock.shift(settings.JOB_LEASE + 1)
            ledger.reclaim()
            pipeline.run(started_by="worker")
            raise Transient("the run's time is used up", code="budget", unsent=True)

    zendesk.before_write = slow
    bring(wave, to_zendesk, "customer", "7")
    assert [row.state for row in Binding.objects.filter(kind="organization")] == [Binding.State.BOUND]


def test_a_worker_whose_job_was_given_away_stops_before_it_writes(
    wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route, clock: time_machine.Traveller, settings: Any
) -> None:
    wave.put_customer()

    def slow() -> None:
        clock.shift(settings.JOB_LEASE + 1)
        ledger.reclaim()

    wave.after_read = slow
    job = bring(wave, to_zendesk, "customer", "7")
    assert (job.state, job.error_code, zendesk.writes) == (State.PENDING, "worker_lost", [])
