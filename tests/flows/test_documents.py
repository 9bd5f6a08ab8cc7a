"""What becomes of names, contacts, payments, labels, fields and grants in accounts that are not as we would like them."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone
from pytest_django import Settings

from audit.models import SyncJob
from audit.states import State
from integrations import pipeline
from integrations.destinations.jira import adf
from integrations.models import FieldMapping, RemoteShape
from integrations.sandbox.server import Fault
from tests.flows.expected import Account, Billed, Paid, issues_of, organization, organization_of, standing, whole
from tests.flows.world import NO_WRITES, Setup, World, key_of, label_of, number_of

MakeWorld = Callable[[Setup], World]
SENT = "2026-05-04 INV-1 sent: 120.00 USD"
OPEN = "INV-1: 120.00 USD, not yet due"
OWES = Account("120.00", open_count=1, open_invoices=(OPEN,), changes=(SENT,))
BILLED = Billed("SENT", "In Progress")


# --- Zendesk's plans ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["without custom objects", "with them, but not wanted"])
def test_without_linked_records_the_organization_carries_the_invoices(empty_world: World, db: None, plan: str) -> None:
    empty_world.zendesk.custom_objects = plan != "without custom objects"
    options = {} if plan == "without custom objects" else {"invoice_storage": "organization_fields"}
    empty_world.configure(Setup(zendesk_options=options))
    customer, invoice = empty_world.synced()
    assert standing(empty_world) == whole(customer, OWES, {invoice: BILLED}) | {"wave_invoice": [], "wave_payment": []}
    assert (empty_world.job("zendesk").state, empty_world.job("zendesk").result) == ("succeeded", "unchanged")
    assert [entry["key"] for entry in empty_world.zendesk.state()["custom_objects"]] == []


# --- Names --------------------------------------------------------------------------------------------------------


def test_customers_of_one_name_are_told_apart_by_their_numbers(world: World) -> None:
    first = world.customer(email="one@northwind.example")
    second = world.customer(email="two@northwind.example", display_id="C-2")
    for customer in (first, second):
        assert world.deliver("customer.created", customer=customer).status_code == 200
    found = {row["external_id"]: row["name"] for row in standing(world)["organizations"]}
    assert found == {key_of(first): "Northwind Bakery", key_of(second): "Northwind Bakery (C-2)"}
    assert world.job("zendesk", "customer").notes == ["name_suffixed"]
    with world.counting() as counted:
        assert world.deliver("customer.updated", customer=second).status_code == 200
    assert counted.writes == NO_WRITES


def test_customers_of_one_name_in_quick_succession_wait_for_the_index(world: World) -> None:
    world.zendesk.search_lag = 90
    first = world.customer(email="one@northwind.example")
    second = world.customer(email="two@northwind.example", display_id="C-2")
    assert [world.deliver("customer.created", customer=customer).status_code for customer in (first, second)] == [200, 503]
    waiting = world.job("zendesk", "customer")
    assert (waiting.state, waiting.error_code) == ("pending", "name_taken_unseen")
    world.settle_later(rounds=2)
    found = {row["external_id"]: row["name"] for row in standing(world)["organizations"]}
    assert found == {key_of(first): "Northwind Bakery", key_of(second): "Northwind Bakery (C-2)"}
    assert world.job("zendesk", "customer").state == "succeeded"


def test_somebody_elses_organization_is_not_touched_until_a_person_lets_it_be_adopted(world: World) -> None:
    theirs = world.zendesk.add_organization("Northwind Bakery", notes="a good customer", tags=["vip"])
    before = world.zendesk.state()["organizations"]
    customer = world.customer()
    assert world.deliver("customer.created", customer=customer).status_code == 200
    dead = world.job("zendesk", "customer")
    assert (dead.state, dead.error_code) == ("dead", "name_taken")
    assert world.zendesk.state()["organizations"] == before
    for way in ("rename the customer in Wave", "that organization in Zendesk", f"set its external id to {key_of(customer)} to adopt it"):
        assert way in world.message(dead)
    world.zendesk.organizations.rows[theirs].external_id = key_of(customer)
    call_command("replay", str(dead.pk), stdout=StringIO())
    world.settle()
    expected = organization(customer, Account()) | {"notes": "a good customer", "tags": ["vip"]}
    assert standing(world)["organizations"] == [expected]
    assert list(world.zendesk.organizations.rows) == [theirs]
    dead.refresh_from_db()
    assert dead.resolved_by == world.job("zendesk", "customer")


def test_an_invoice_that_was_moved_leaves_the_account_it_was_on(world: World) -> None:
    _, invoice = world.synced()
    other = world.customer("Other Bakery", email="other@example.com")
    world.wave.change_invoice(invoice, customer=other)
    world.sync(invoice)
    shown = {row["name"]: row["organization_fields"] for row in standing(world)["organizations"]}
    accounts = {name: (fields["wave_outstanding"], fields["wave_recent_changes"]) for name, fields in shown.items()}
    assert accounts == {"Northwind Bakery": ("0.00", None), "Other Bakery": ("120.00", SENT)}
    [record] = standing(world)["wave_invoice"]
    assert record["custom_object_fields"]["organization"] == key_of(other)


def test_the_former_customers_account_is_told_of_a_move_that_is_read_later(world: World, settings: Settings) -> None:
    settings.WEBHOOK_ACK = "stored"
    customer, invoice = world.synced()
    other = world.customer("Other Bakery", email="other@example.com")
    world.wave.change_invoice(invoice, customer=other)
    assert world.deliver("invoice.updated", invoice=invoice).status_code == 200
    former = SyncJob.objects.get(key=key_of(customer), state=State.PENDING)
    assert pipeline.run([former.pk], started_by="worker")  # while the invoice's own job still waits
    world.settle()
    shown = {row["name"]: row["organization_fields"]["wave_recent_changes"] for row in standing(world)["organizations"]}
    assert shown == {"Northwind Bakery": None, "Other Bakery": SENT}


# --- Contacts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changed", ["customer", "invoice"])
def test_all_invoices_follow_an_organization_that_was_made_anew(world: World, changed: str) -> None:
    customer, first = world.synced()
    second = world.invoice(customer, "INV-2")
    world.sync(second)
    [before] = world.zendesk.organizations.rows
    world.zendesk.delete_organization(before)
    if changed == "customer":
        world.wave.change_customer(customer, phone="+49 30 1")
        world.deliver("customer.updated", customer=customer)
    else:
        world.wave.change_invoice(first, total="150.00")
        world.deliver("invoice.updated", invoice=first)
    world.settle_later(minutes=2, rounds=2)
    [after] = world.zendesk.organizations.rows
    records = world.zendesk.objects.rows["wave_invoice"].records.values()
    assert after != before
    assert [record.values["organization"] for record in records] == [str(after)] * 2


@pytest.mark.parametrize("own_id", [None, "crm-17"])
def test_an_existing_user_keeps_everything_and_joins_the_organization(world: World, own_id: str | None) -> None:
    elsewhere = world.zendesk.add_organization("Another Company", "crm-1")
    world.zendesk.add_user("A. Miller", "ada@northwind.example", role="agent", organization_id=elsewhere, external_id=own_id, phone="1")
    customer = world.customer()
    assert world.deliver("customer.created", customer=customer).status_code == 200
    [user] = standing(world)["users"]
    kept = {name: user[name] for name in ("name", "role", "phone", "external_id", "organization_ids")}
    assert kept == {
        "name": "A. Miller",
        "role": "agent",
        "phone": "1",
        "external_id": own_id,
        "organization_ids": ["crm-1", key_of(customer)],
    }
    world.wave.change_customer(customer, phone="+1 416 555 0199")
    assert world.deliver("customer.updated", customer=customer).status_code == 200
    assert standing(world)["users"] == [user]


def test_contacts_are_left_out_where_the_route_says_so(make_world: MakeWorld) -> None:
    world = make_world(Setup(zendesk_options={"contacts": False}))
    world.synced()
    assert standing(world)["users"] == []


# --- Payments -----------------------------------------------------------------------------------------------------


def paid(world: World) -> tuple[str, str, str]:
    """Let an invoice be partly paid at both destinations; return customer, invoice and payment."""
    customer, invoice = world.synced()
    payment = world.wave.pay(invoice, "50.00")
    world.sync(invoice)
    return customer, invoice, payment


PARTLY = "2026-05-04 INV-1 partly paid: 50.00 of 120.00 USD"


def test_a_payment_removed_in_wave_is_removed_at_both_destinations(world: World) -> None:
    customer, invoice, payment = paid(world)
    world.wave.remove_payment(payment)
    world.sync(invoice)
    account = Account("120.00", open_count=1, open_invoices=(OPEN,), changes=(SENT, PARTLY, SENT))
    assert standing(world) == whole(customer, account, {invoice: BILLED})


def test_a_payment_changed_in_wave_is_changed_in_place(world: World) -> None:
    customer, invoice, payment = paid(world)
    world.wave.invoices[invoice].payments[0].amount = Decimal("60.00")
    world.wave.change_invoice(invoice, memo="")
    with world.counting() as counted:
        world.sync(invoice)
    assert counted.writes == (["PUT organization", "PATCH wave_invoice", "PATCH wave_payment"], ["PUT issue", "PUT worklog"])
    billed = Billed("PARTIAL", "In Progress", paid="60.00", due="60.00", payments=(Paid(payment, "60.00"),))
    account = Account(
        "60.00",
        open_count=1,
        open_invoices=("INV-1: 60.00 USD, not yet due",),
        changes=("2026-05-04 INV-1 partly paid: 60.00 of 120.00 USD", PARTLY, SENT),
        last_payment="2026-05-04: 60.00 USD (BANK_TRANSFER)",
    )
    assert standing(world) == whole(customer, account, {invoice: billed})


@pytest.mark.parametrize(("payments", "shown"), [("comment", 1), ("off", 0)])
def test_payments_are_comments_or_nothing_where_the_route_says_so(make_world: MakeWorld, payments: str, shown: int) -> None:
    world = make_world(Setup(jira_options={"payments": payments}))
    paid(world)
    [issue] = issues_of(world)
    assert (issue["worklogs"], len(issue["comments"]), issue["fields"]["Wave paid"]) == ([], shown, 50.0)


# --- Jira's issues ------------------------------------------------------------------------------------------------


def test_customers_become_issues_where_the_route_asks_for_them(make_world: MakeWorld) -> None:
    world = make_world(Setup(jira_kinds=("customer", "invoice", "payment"), jira_options={"customer_issue_type": "Story"}))
    customer = world.customer()
    assert world.deliver("customer.created", customer=customer).status_code == 200
    [issue] = issues_of(world)
    fields = {name: value for name, value in issue["fields"].items() if value is not None}
    assert (issue["type"], issue["summary"], issue["labels"]) == ("Story", "Northwind Bakery", ["wave", label_of(customer)])
    assert sorted(fields) == ["Wave customer id", "Wave job id", "Wave synced at"]
    assert fields["Wave customer id"] == number_of(customer)
    assert issue["properties"] == {"wave.customer": {"key": key_of(customer)}}
    world.wave.change_customer(customer, name="Northwind Bakers")
    assert world.deliver("customer.updated", customer=customer).status_code == 200
    assert [one["summary"] for one in issues_of(world)] == ["Northwind Bakers"]


def test_a_customers_issue_follows_the_invoices(make_world: MakeWorld) -> None:
    world = make_world(Setup(jira_kinds=("customer", "invoice", "payment")))
    first, second = world.customer("Fernhill"), world.customer("Northwind Bakery")
    invoice = world.invoice(first, total="120.00")
    world.sync(invoice)
    assert told_in_issues(world) == {"Fernhill": "120.00 USD"}
    world.wave.change_invoice(invoice, total="150.00")
    world.sync(invoice)
    assert told_in_issues(world) == {"Fernhill": "150.00 USD"}
    world.wave.change_invoice(invoice, customer=second)
    world.sync(invoice)
    assert told_in_issues(world) == {"Fernhill": "", "Northwind Bakery": "150.00 USD"}


def told_in_issues(world: World) -> dict[str, str]:
    """Return what each customer's issue says is outstanding."""
    mine = [issue for issue in issues_of(world) if "wave.customer" in issue["properties"]]
    texts = {issue["summary"]: adf.plain_text(issue["description"]) for issue in mine}
    return {name: " ".join(text.partition("Outstanding: ")[2].split()[:2]) for name, text in texts.items()}


def test_one_refusal_does_not_take_the_records_from_an_account_that_has_had_them(world: World) -> None:
    _, invoice = world.synced()
    RemoteShape.objects.update(learnt_at=timezone.now() - timedelta(days=2))
    world.zendesk.faults.append(Fault("status", method="GET", path="/custom_objects", status=403, body={"error": "Forbidden"}))
    world.wave.change_invoice(invoice, total="150.00")
    world.deliver("invoice.updated", invoice=invoice)
    refused = SyncJob.objects.get(state=State.DEAD)  # whichever came first: it says so, and is replayed
    assert (refused.kind, refused.error_code) == ("customer", "forbidden")
    assert (world.job("zendesk").result, world.job("zendesk").notes) == ("updated", [])
    call_command("replay", "--state", "dead", stdout=StringIO())
    world.settle()
    assert world.job("zendesk", "customer").state == "succeeded"


def test_labels_that_people_added_stay(world: World) -> None:
    _, invoice = world.synced()
    [key] = world.jira.state()["issues"]
    world.jira.edit(key, labels=["wave", label_of(invoice), "vip"])
    world.wave.change_invoice(invoice, total="150.00")
    world.sync(invoice)
    [issue] = issues_of(world)
    assert (set(issue["labels"]), issue["fields"]["Wave total"]) == ({"wave", label_of(invoice), "vip"}, 150.0)


def test_a_field_off_the_screen_is_dropped_and_rests_until_it_is_put_back(world: World) -> None:
    currency = next(field["id"] for field in world.jira.state()["fields"] if field["name"] == "Wave currency")
    world.jira.screens[1].tabs[1].remove(currency)
    customer, invoice = world.synced()
    expected = whole(customer, OWES, {invoice: BILLED})
    [issue] = issues_of(world)
    assert issue["fields"] == {name: value for name, value in expected["issues"][0]["fields"].items() if name != "Wave currency"}
    job, row = world.job("jira"), FieldMapping.objects.get(route=world.route("jira"), target="Wave currency")
    assert (job.state, job.result, job.notes) == ("succeeded", "created", ["field_dropped"])
    assert row.problem == f"Field '{currency}' cannot be set. It is not on the appropriate screen, or unknown."
    with world.counting() as counted:
        world.sync(invoice)
    assert counted.writes == NO_WRITES
    world.provision()
    world.sync(invoice)
    assert standing(world) == expected


def test_a_mapping_that_is_taken_away_empties_its_field_once(world: World) -> None:
    _, invoice = world.synced()
    gone = {"invoice": {"currency": ""}}
    world.apply(Setup(zendesk_fields=gone, jira_fields={"invoice": {"Wave currency": ""}}))
    with world.counting() as counted:
        world.sync(invoice)
    assert counted.writes == (["PATCH wave_invoice"], ["PUT issue"])
    [record], [issue] = standing(world)["wave_invoice"], issues_of(world)
    assert (record["custom_object_fields"]["currency"], issue["fields"].get("Wave currency")) == (None, None)
    with world.counting() as again:
        world.sync(invoice)
    assert again.writes == NO_WRITES


# --- Grants -------------------------------------------------------------------------------------------------------


def expire(world: World, system: str) -> None:
    """Let the access token of a system run out in mid-work."""
    {
        "wave": lambda: world.wave.expire(world.tokens["WAVE_ACCESS"]),
        "zendesk": lambda: world.zendesk.expire(world.tokens["ZENDESK_ACCESS"]),
        "jira": world.jira.grants.expire_access,
    }[system]()


def revoke(world: World, system: str) -> None:
    """Take the whole grant back."""
    {
        "wave": lambda: world.wave.revoke(world.tokens["WAVE_REFRESH"]),
        "zendesk": world.zendesk.tokens.grants.clear,
        "jira": world.jira.grants.revoke,
    }[system]()


SYSTEMS = ("wave", "zendesk", "jira")


@pytest.mark.parametrize("system", SYSTEMS)
def test_an_expired_token_is_refreshed_once_and_the_work_goes_on(make_world: MakeWorld, system: str) -> None:
    world = make_world(Setup(oauth=True))
    customer, invoice = world.synced()
    expire(world, system)
    world.wave.change_invoice(invoice, total="150.00")
    with world.counting() as counted:
        world.sync(invoice)
        world.sync(invoice)
    tokens = {name: getattr(counted, name).count("POST token") for name in SYSTEMS}
    assert tokens == {**dict.fromkeys(SYSTEMS, 0), system: 1}
    account = Account(
        "150.00", open_count=1, open_invoices=("INV-1: 150.00 USD, not yet due",), changes=("2026-05-04 INV-1 sent: 150.00 USD", SENT)
    )
    assert standing(world) == whole(customer, account, {invoice: Billed("SENT", "In Progress", total="150.00", due="150.00")})


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_dead_grant_stops_all_calls_until_somebody_reconnects(make_world: MakeWorld, system: str) -> None:
    setup = Setup(oauth=True)
    world = make_world(setup)
    _, invoice = world.synced()
    revoke(world, system)
    world.wave.change_invoice(invoice, total="150.00")
    assert world.deliver("invoice.updated", invoice=invoice).status_code == 503
    world.settle()
    blocked = {"wave": {"zendesk", "jira"}, "zendesk": {"zendesk"}, "jira": {"jira"}}[system]
    assert set(SyncJob.objects.filter(state="blocked").values_list("system", flat=True)) == blocked
    assert world.connection(system).status == "needs_reconnect"
    with world.counting() as counted:
        assert world.deliver("invoice.updated", invoice=invoice).status_code == 503
        world.settle_later(minutes=20, rounds=2)
    assert getattr(counted, system) == []
    world.reconnect(setup)
    world.settle()
    assert not SyncJob.objects.exclude(state__in=["succeeded", "superseded"]).exists()
    assert world.holds() == []
    shown = organization_of(world)["organization_fields"]["wave_outstanding"], issues_of(world)[0]["fields"]["Wave total"]
    assert shown == ("150.00", 150.0)
