"""What one change costs, counted at the stand-ins."""

from collections import Counter
from collections.abc import Callable

import pytest
from pytest_django import Settings

from integrations.bench import plans
from integrations.models import Delivery
from integrations.sandbox.server import Fault
from tests.flows.world import Apart, Counted, Held, Setup, World, wait_until

MANY = 50
STATEMENTS = 69  # docs/architecture.md tells it, transactions and savepoints not counted
RECORD, PAYMENT, ORGANIZATION = "PATCH wave_invoice", "PATCH wave_payment", "PUT organization"
ISSUE, WORKLOG, HOP = "PUT issue", "POST worklog", "POST transition"


def costs(world: World, invoice: str, event: str = "invoice.updated") -> Counted:
    """Return the calls that one delivery about the invoice makes, the derived job's included."""
    with world.counting() as counted:
        assert world.deliver(event, invoice=invoice).status_code == 200
        world.settle()
    return counted


def test_an_invoice_viewed_again_costs_one_read(world: World) -> None:
    _, invoice = world.synced()
    world.wave.view(invoice)
    world.sync(invoice)
    world.wave.view(invoice)
    assert costs(world, invoice, "invoice.viewed") == Counted(["POST read"], [], [])


def test_a_changed_total_costs_no_more_statements_than_told(world: World) -> None:
    _, invoice = world.synced()
    world.wave.change_invoice(invoice, total="150.00")
    with plans.caught() as statements:
        assert world.deliver("invoice.updated", invoice=invoice).status_code == 200
    assert sum(sql.startswith(("SELECT", "INSERT", "UPDATE", "DELETE")) for sql, _ in statements) <= STATEMENTS


@pytest.mark.parametrize("change", [{"due_date": "2026-06-20"}, {"po_number": "PO-77"}])
def test_a_due_date_or_po_number_costs_one_write_each(world: World, change: dict[str, str]) -> None:
    _, invoice = world.synced()
    world.wave.change_invoice(invoice, **change)
    assert costs(world, invoice) == Counted(["POST read"], [RECORD], [ISSUE])


def test_a_due_date_that_moves_the_oldest_age_costs_the_organization_too(world: World) -> None:
    _, invoice = world.synced(invoice_date="2026-03-20", due_date="2026-04-22")
    world.wave.change_invoice(invoice, due_date="2026-04-12")
    assert costs(world, invoice) == Counted(["POST read"], [ORGANIZATION, RECORD], [ISSUE])


def test_a_total_costs_the_record_the_organization_and_the_issue(world: World) -> None:
    _, invoice = world.synced()
    world.wave.change_invoice(invoice, total="150.00")
    assert costs(world, invoice) == Counted(["POST read"], [ORGANIZATION, RECORD], [ISSUE])


def test_a_total_costs_the_customers_issue_too_where_it_shows_sums(make_world: Callable[[Setup], World]) -> None:
    world = make_world(Setup(jira_kinds=("customer", "invoice", "payment")))
    _, invoice = world.synced()
    world.wave.change_invoice(invoice, total="150.00")
    assert costs(world, invoice) == Counted(["POST read"], [ORGANIZATION, RECORD], [ISSUE, ISSUE])
    world.wave.view(invoice)
    assert costs(world, invoice, "invoice.viewed") == Counted(["POST read"], [RECORD], [])


def test_a_customers_issue_that_shows_no_sums_costs_nothing_more(make_world: Callable[[Setup], World]) -> None:
    fields = {"customer": {"description": "{{ customer.phone }}"}}
    world = make_world(Setup(jira_kinds=("customer", "invoice", "payment"), jira_fields=fields))
    _, invoice = world.synced()
    world.wave.change_invoice(invoice, total="150.00")
    assert costs(world, invoice) == Counted(["POST read"], [ORGANIZATION, RECORD], [ISSUE])
    assert ("jira", "customer") not in {(system, kind) for system, kind, *_ in world.jobs()}


def test_paid_in_full_costs_its_payment_and_one_call_per_hop(world: World) -> None:
    first, second = _two_invoices(world)
    world.wave.pay(first, "120.00")
    learning = costs(world, first, "invoice.paid")
    assert learning == Counted(["POST read"], [ORGANIZATION, RECORD, PAYMENT], [ISSUE, WORKLOG, "GET issue", HOP])
    world.wave.pay(second, "80.00")
    assert costs(world, second, "invoice.paid") == Counted(["POST read"], [ORGANIZATION, RECORD, PAYMENT], [ISSUE, WORKLOG, HOP])


def test_two_hops_cost_two_calls(world: World) -> None:
    first, second = _two_invoices(world, sent=False)
    for invoice in (first, second):
        world.wave.approve(invoice)
        world.sync(invoice)
    world.wave.pay(first, "120.00")
    world.sync(first)
    world.wave.pay(second, "80.00")
    assert costs(world, second, "invoice.paid") == Counted(["POST read"], [ORGANIZATION, RECORD, PAYMENT], [ISSUE, WORKLOG, HOP, HOP])


def _two_invoices(world: World, *, sent: bool = True) -> tuple[str, str]:
    customer, first = world.synced(sent=sent)
    second = world.invoice(customer, "INV-2", total="80.00", sent=sent)
    world.sync(second)
    return first, second


def test_a_customer_that_the_event_does_not_name_costs_one_more_read_once(world: World) -> None:
    customer = world.customer()
    invoice = world.invoice(customer)
    body = world.wave.event("invoice.sent", invoice=invoice, customer_id=None)
    with world.counting() as counted:
        assert world.post(body).status_code == 200
        world.settle()
    assert counted.wave == ["POST read", "POST read"]
    world.wave.view(invoice)
    with world.counting() as again:
        assert world.post(world.wave.event("invoice.viewed", invoice=invoice, customer_id=None)).status_code == 200
        world.settle()
    assert (again.wave, again.writes) == (["POST read"], ([RECORD], []))


# --- Many deliveries for one invoice ------------------------------------------------------------------------------


def assert_economical(counted: Counted) -> None:
    """Two reads of Wave and two writes per remote object are the most that many deliveries may cost."""
    assert 1 <= len(counted.wave) <= 2
    by_object = Counter(call.split()[1] for calls in counted.writes for call in calls)
    assert by_object
    assert max(by_object.values()) <= 2


def test_deliveries_for_a_job_that_waits_for_a_worker_are_one_piece_of_work(world: World, settings: Settings) -> None:
    settings.WEBHOOK_ACK = "stored"
    _, invoice = world.synced()
    world.settle()
    world.wave.change_invoice(invoice, total="150.00")
    with world.counting() as counted:
        answers = [world.deliver("invoice.updated", invoice=invoice).status_code for _ in range(MANY)]
        world.settle()
    assert answers == [200] * MANY
    assert counted == Counted(["POST read"], [ORGANIZATION, RECORD], [ISSUE])


def test_invoices_that_wait_together_are_one_read(world: World, settings: Settings) -> None:
    settings.WEBHOOK_ACK = "stored"
    invoices = [world.invoice(world.customer(f"Customer {place}"), f"INV-{place}") for place in range(4)]
    with world.counting() as counted:
        for invoice in invoices:
            world.deliver("invoice.sent", invoice=invoice)
        world.settle()
    assert counted.wave == ["POST read"]
    assert {(state, result) for _, _, state, result in world.jobs()} == {("succeeded", "created")}


def test_deliveries_for_a_job_that_the_vendor_put_off_make_no_call_before_its_time(world: World) -> None:
    _, invoice = world.synced()
    world.wave.change_invoice(invoice, total="150.00")
    world.wave.faults.append(Fault("status", path="/graphql", headers={"Retry-After": "60"}))
    with world.counting() as counted:
        answers = [world.deliver("invoice.updated", invoice=invoice).status_code for _ in range(MANY)]
        world.settle_later(minutes=1.5)
    assert answers == [503] * MANY
    assert counted == Counted(["POST read", "POST read"], [ORGANIZATION, RECORD], [ISSUE])


@pytest.mark.parametrize("acknowledge", ["processed", "stored"])
def test_deliveries_that_come_while_the_job_runs_cost_one_more_run(
    threaded_world: Callable[[Setup], World], settings: Settings, acknowledge: str
) -> None:
    settings.WEBHOOK_DEADLINE = settings.HTTP_TIMEOUT = 30  # the read is held up until all have come, on whatever machine
    world = threaded_world(Setup())
    _, invoice = world.synced()
    world.wave.change_invoice(invoice, total="150.00")
    settings.WEBHOOK_ACK = acknowledge
    bodies = [world.wave.event("invoice.updated", invoice=invoice) for _ in range(MANY)]
    before = Delivery.objects.count()
    with world.counting() as counted, Apart() as apart:
        with Held(world.wave, "POST", "/graphql") as read:
            answers = [apart.run(world.post, bodies[0])]
            if acknowledge == "stored":
                answers[0].result()
                apart.run(world.settle)
            read.wait()
            answers += [apart.run(world.post, body) for body in bodies[1:]]
            wait_until(lambda: Delivery.objects.count() == before + MANY)
        found = [answer.result().status_code for answer in answers]
    world.settle()
    assert found == [200] * MANY
    assert_economical(counted)
