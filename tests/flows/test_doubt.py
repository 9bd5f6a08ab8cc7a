"""Duplicates, races, lost answers and outages: one remote object per record, and the last state wins."""

from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from audit import ledger
from audit.models import SyncJob
from integrations import pipeline
from integrations.models import Binding
from integrations.sandbox.server import Fault
from tests.flows.expected import Account, Billed, Paid, issues_of, organization_of, standing, whole
from tests.flows.world import NO_WRITES, Apart, Held, Setup, World, key_of

SENT = "2026-05-04 INV-1 sent: 120.00 USD"
PAID = Account(changes=("2026-05-04 INV-1 paid: 120.00 USD",), last_payment="2026-05-04: 120.00 USD (BANK_TRANSFER)")


def paid_in_full(payment: str) -> Billed:
    return Billed("PAID", "Done", paid="120.00", due="0.00", payments=(Paid(payment, "120.00"),))


# --- The same thing more than once --------------------------------------------------------------------------------


def test_the_same_delivery_twice_is_answered_twice_and_written_once(world: World) -> None:
    invoice = world.invoice(world.customer())
    world.wave.pay(invoice, "120.00")
    body = world.wave.event("invoice.paid", invoice=invoice)
    assert world.post(body).status_code == 200
    world.settle()
    stood = standing(world)
    with world.counting() as counted:
        assert world.post(body).status_code == 200
        world.settle()
    assert (counted.wave, counted.writes) == ([], NO_WRITES)
    assert standing(world) == stood


def test_three_copies_at_once_leave_one_of_everything(threaded_world: Callable[[Setup], World]) -> None:
    world = threaded_world(Setup())
    customer = world.customer()
    invoice = world.invoice(customer)
    payment = world.wave.pay(invoice, "120.00")
    body = world.wave.event("invoice.paid", invoice=invoice)
    with Apart() as apart:
        answers = [apart.run(world.post, body) for _ in range(3)]
    assert [answer.result().status_code for answer in answers] == [200, 200, 200]
    world.settle()
    assert standing(world) == whole(customer, PAID, {invoice: paid_in_full(payment)})


# --- Two at once --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("held", ["the first one's read", "the first one's write"])
def test_of_two_invoices_changed_at_once_the_newer_balance_stays(threaded_world: Callable[[Setup], World], held: str) -> None:
    world = threaded_world(Setup())
    customer = world.customer()
    first, second = (world.invoice(customer, number, total=total) for number, total in (("INV-1", "120.00"), ("INV-2", "80.00")))
    world.sync(first)
    world.sync(second)
    assert organization_of(world)["organization_fields"]["wave_outstanding"] == "200.00"
    places: dict[str, tuple[Any, str, str]] = {
        "the first one's read": (world.wave, "POST", "/graphql"),
        "the first one's write": (world.zendesk, "PUT", "/organizations/"),
    }
    world.wave.pay(first, "120.00")
    with Apart() as apart:
        with Held(*places[held], answered=held.endswith("read")) as hold:
            older = apart.run(world.deliver_now, "invoice.paid", first)
            hold.wait()
            world.wave.pay(second, "30.00")
            assert world.deliver("invoice.partially_paid", invoice=second).status_code == 200
            world.settle()
        assert older.result().status_code == 200
    world.settle()
    shown = organization_of(world)["organization_fields"]
    assert (shown["wave_outstanding"], shown["wave_open_invoices"]) == ("50.00", "INV-2: 50.00 USD, not yet due")


# --- Writes without an answer -------------------------------------------------------------------------------------


def test_a_write_that_committed_without_an_answer_does_not_outlive_the_value_it_wrote(world: World) -> None:
    customer, invoice = world.synced()
    stood = standing(world)
    world.wave.change_invoice(invoice, total="999.00")
    for stand_in, method, path in (
        (world.zendesk, "PUT", "/organizations/"),
        (world.zendesk, "PATCH", "/records"),
        (world.jira, "PUT", "/issue/"),
    ):
        stand_in.faults.append(Fault("lost", method=method, path=path))
    assert world.deliver("invoice.updated", invoice=invoice).status_code == 503
    assert organization_of(world)["organization_fields"]["wave_outstanding"] == "999.00"
    assert [issue["fields"]["Wave total"] for issue in issues_of(world)] == [999.0]
    world.wave.change_invoice(invoice, total="120.00")
    world.settle_later(minutes=2, rounds=2)
    news = ("2026-05-04 INV-1 sent: 999.00 USD", SENT)
    account = Account("120.00", open_count=1, open_invoices=("INV-1: 120.00 USD, not yet due",), changes=(SENT, *news))
    assert standing(world) == whole(customer, account, {invoice: Billed("SENT", "In Progress")})
    assert stood["issues"] == standing(world)["issues"]
    assert set(Binding.objects.values_list("state", flat=True)) == {"bound"}


@pytest.mark.parametrize("killed", [False, True], ids=["the worker lives", "the worker dies"])
def test_an_issue_whose_create_got_no_answer_is_found_though_the_index_lags(
    world: World, monkeypatch: pytest.MonkeyPatch, settings: Settings, killed: bool
) -> None:
    settings.WEBHOOK_DEADLINE = 4.5  # the first look is due after 5 s
    world.jira.index_lag = 20
    customer = world.customer()
    invoice = world.invoice(customer)
    payment = world.wave.pay(invoice, "120.00")
    body = world.wave.event("invoice.paid", invoice=invoice)
    world.jira.faults.append(Fault("lost", method="POST", path="/issue$"))
    if killed:
        with monkeypatch.context() as worker, pytest.raises(WorkerKilled):
            worker.setattr(pipeline, "_fail", _killed)
            world.post(body)
        settings.WEBHOOK_DEADLINE = 0.5  # nobody runs the job that the dead worker holds
    assert world.post(body).status_code == 503
    assert (len(world.jira.issues), world.binding("issue").state) == (1, "creating")
    with world.counting() as counted:
        world.settle_later(minutes=0.125, rounds=24)
    assert counted.jira.count("POST search") == (1 if killed else 3)
    assert counted.jira.count("POST issue") == 0
    assert (world.job("jira").state, ledger.anything_due()) == ("succeeded", False)
    assert standing(world) == whole(customer, PAID, {invoice: paid_in_full(payment)})


def test_an_issue_whose_create_got_no_answer_is_marked_though_its_invoice_is_deleted_meanwhile(world: World, settings: Settings) -> None:
    settings.WEBHOOK_DEADLINE = 4.5  # the first look is due after 5 s
    world.jira.index_lag = 20
    invoice = world.invoice(world.customer())
    world.jira.faults.append(Fault("lost", method="POST", path="/issue$"))
    assert world.deliver("invoice.sent", invoice=invoice).status_code == 503
    world.wave.delete_invoice(invoice)
    world.deliver("invoice.updated", invoice=invoice)
    world.settle_later(minutes=3, rounds=6)
    [issue] = issues_of(world)
    assert "wave-deleted" in issue["labels"]
    assert (world.job("jira").state, world.job("jira").result) == ("succeeded", "deleted")
    assert not Binding.objects.exclude(state="bound").exists()


def test_a_record_that_somebody_deleted_at_zendesk_needs_no_mark_when_its_invoice_is_deleted(world: World) -> None:
    _, invoice = world.synced()
    world.zendesk.delete_record(key_of(invoice))
    world.wave.delete_invoice(invoice)
    world.deliver("invoice.updated", invoice=invoice)
    world.settle_later(minutes=6)
    assert (world.job("zendesk").state, world.job("zendesk").result) == ("succeeded", "deleted")
    assert not Binding.objects.exclude(state="bound").exists()


def test_a_status_that_was_moved_half_way_is_looked_at_again(world: World) -> None:
    invoice = world.invoice(world.customer(), sent=False)
    world.sync(invoice)
    limited = Fault("status", method="GET", path=r"/issue/\d+$", status=429, headers={"Retry-After": "30"})
    world.jira.faults.append(limited)
    world.wave.change_invoice(invoice, status="PAID")
    assert world.deliver("invoice.updated", invoice=invoice).status_code == 503
    assert issues_of(world)[0]["status"] == "In Progress", "the first of two hops was taken"
    world.wave.change_invoice(invoice, status="SAVED")
    world.settle_later(minutes=2)
    assert issues_of(world)[0]["status"] == "To Do"


class WorkerKilled(BaseException):
    """The worker ends here, as by SIGKILL: nothing is settled."""


def _killed(*args: object) -> None:
    raise WorkerKilled


# --- A destination that is down -----------------------------------------------------------------------------------


def down(world: World) -> Fault:
    """Let Jira be down until the fault is removed."""
    fault = Fault("status", path="/rest/", times=0, status=503, body={"message": "maintenance"})
    world.jira.faults.append(fault)
    return fault


def test_a_payment_while_jira_is_down_is_redelivered_and_logged_once(world: World) -> None:
    _, invoice = world.synced()
    payment = world.wave.pay(invoice, "120.00")
    body = world.wave.event("invoice.paid", invoice=invoice)
    fault = down(world)
    refused = world.post(body)
    assert refused.status_code == 503
    assert 1 <= int(refused["Retry-After"]) <= 3600
    assert (world.job("jira").state, world.job("zendesk").state) == ("pending", "succeeded")
    world.jira.faults.remove(fault)
    assert world.post(body).status_code == 200
    world.settle()
    assert [log["properties"] for log in issues_of(world)[0]["worklogs"]] == [{"wave.payment": {"id": key_of(payment)}}]
    assert issues_of(world)[0]["status"] == "Done"


def test_half_an_hour_of_redeliveries_to_a_dead_jira_kills_nothing(world: World) -> None:
    customer, invoice = world.synced()
    payment = world.wave.pay(invoice, "120.00")
    body = world.wave.event("invoice.paid", invoice=invoice)
    fault = down(world)
    for _ in range(15):
        assert world.post(body).status_code == 503
        world.settle_later(minutes=2)
    assert not SyncJob.objects.filter(state="dead").exists()
    world.jira.faults.remove(fault)
    world.settle_later(minutes=4)  # the longest wait for a probe
    assert world.post(body).status_code == 200
    account = Account(changes=(*PAID.changes, SENT), last_payment=PAID.last_payment)
    assert standing(world) == whole(customer, account, {invoice: paid_in_full(payment)})


# --- States without a status --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "state"),
    [({"SENT": "Awaiting approval"}, "SENT"), ({}, "DISPUTED")],
    ids=["a status that Jira does not have", "a tenth state of Wave's"],
)
def test_a_state_without_a_reachable_status_leaves_the_status_alone(
    make_world: Callable[[Setup], World], statuses: dict[str, str], state: str
) -> None:
    world = make_world(Setup(statuses=statuses))
    customer = world.customer()
    invoice = world.invoice(customer, sent=False)
    world.wave.approve(invoice)
    world.sync(invoice)
    world.wave.change_invoice(invoice, total="150.00", status=state)
    assert world.deliver("invoice.updated", invoice=invoice).status_code == 200
    job = world.job("jira")
    assert (job.state, job.result, job.notes) == ("succeeded", "updated", ["status_unmapped"])
    [issue] = issues_of(world)
    assert (issue["status"], issue["fields"]["Wave total"]) == ("To Do", 150.0)


def test_a_status_that_no_transition_leads_to_is_left_alone(make_world: Callable[[Setup], World]) -> None:
    world = make_world(Setup())
    edges = {"To Do": ["In Progress"], "In Progress": ["To Do"], "Done": ["In Progress"]}
    world.jira.set_workflow("BILL", "Task", statuses=("To Do", "In Progress", "Done"), edges=edges)
    _, invoice = world.synced()
    world.wave.pay(invoice, "120.00")
    assert world.deliver("invoice.paid", invoice=invoice).status_code == 200
    job = world.job("jira")
    assert (job.state, job.notes) == ("succeeded", ["status_unmapped"])
    [issue] = issues_of(world)
    assert (issue["status"], issue["fields"]["Wave paid"], len(issue["worklogs"])) == ("In Progress", 120.0, 1)


# --- Summaries ----------------------------------------------------------------------------------------------------


def test_a_summary_tells_of_a_change_that_only_a_later_read_brought(world: World) -> None:
    customer, invoice = world.synced()
    world.wave.faults.append(Fault("status", path="/graphql"))
    world.wave.change_invoice(invoice, total="150.00")
    assert world.deliver("invoice.updated", invoice=invoice).status_code == 503
    for kind in ("customer", "invoice"):
        SyncJob.objects.filter(kind=kind, state="pending").update(due_at=timezone.now())
        world.settle()
    news = "2026-05-04 INV-1 sent: 150.00 USD"
    account = Account("150.00", open_count=1, open_invoices=("INV-1: 150.00 USD, not yet due",), changes=(news, SENT))
    assert standing(world) == whole(customer, account, {invoice: Billed("SENT", "In Progress", total="150.00", due="150.00")})
