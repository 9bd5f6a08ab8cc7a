"""The Zendesk destination against the stand-in: what it writes, adopts, refuses, removes and provisions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests

from integrations.core.documents import Bound, Document, Link, Value, Written
from integrations.core.errors import Rejected, Transient, Unmappable
from integrations.core.ports import Check, FieldRule, Plan, Step, Trace
from integrations.core.records import Address, Business, Customer, History, Invoice, Money, OpenInvoice, Payment, Snapshot
from integrations.destinations.zendesk import mapping
from integrations.destinations.zendesk.adapter import SYSTEM, ZendeskDestination
from integrations.http import ApiClient
from integrations.sandbox.server import Fault, serving
from integrations.sandbox.zendesk import Zendesk

CUSTOMER_KEY, INVOICE_KEY, PAYMENT_KEY = "wave:b1:customer:7", "wave:b1:invoice:12", "wave:b1:payment:30"
AT = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
TRACE = Trace(AT, "41")
RULES = tuple(FieldRule(default.kind, default.target, default.template) for default in SYSTEM.defaults)

CUSTOMER = Customer(
    key=CUSTOMER_KEY,
    name="Acme",
    modified_at=AT,
    first_name="Jane",
    last_name="Doe",
    display_id="C-7",
    email="jane@acme.example",
    phone="+1 555 0100",
    website="https://acme.example",
    currency="USD",
    address=Address(line1="1 Main St", city="Springfield"),
    outstanding=Money(Decimal("120.00"), "USD"),
    overdue=Money(Decimal("0.00"), "USD"),
)
PAYMENT = Payment(PAYMENT_KEY, Money(Decimal("30.00"), "USD"), date(2026, 11, 19), method="CASH")
INVOICE = Invoice(
    key=INVOICE_KEY,
    number="2026-12",
    status="PARTIAL",
    customer=CUSTOMER,
    total=Money(Decimal("150.00"), "USD"),
    due=Money(Decimal("120.00"), "USD"),
    paid=Money(Decimal("30.00"), "USD"),
    issued_on=date(2026, 11, 1),
    due_on=date(2026, 12, 1),
    modified_at=AT,
    url="https://next.waveapps.com/i/12",
    payments=(PAYMENT,),
)
SNAPSHOT = Snapshot(
    business=Business("b1", "Ours", "UTC", "USD"),
    read_at=AT,
    today=date(2026, 11, 20),
    customer=CUSTOMER,
    open_invoices=(OpenInvoice("2026-12", "PARTIAL", Money(Decimal("120.00"), "USD"), date(2026, 12, 1)),),
    invoice=INVOICE,
    history=History(("2026-11-19 payment of 30.00 USD",), PAYMENT),
)


class Bearer:
    """A token that cannot be renewed."""

    def __init__(self, token: str) -> None:
        self.token = token

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def renew(self, stale: dict[str, str]) -> bool:
        return False


class Shelf(dict[str, Any]):
    """A shape in memory."""

    def ever(self, name: str) -> Any:
        return self.get(name)

    def put(self, name: str, value: Any) -> None:
        self[name] = value


@dataclass
class Route:
    """One route as the pipeline would drive it, with its bindings."""

    account: Zendesk
    base_url: str
    options: dict[str, Any] = field(default_factory=dict)
    rules: tuple[FieldRule, ...] = RULES
    kinds: tuple[str, ...] = ("customer", "invoice", "payment")
    shelf: Shelf = field(default_factory=Shelf)
    bound: dict[tuple[str, str], Bound] = field(default_factory=dict)

    def destination(self, scope: str = "read write") -> ZendeskDestination:
        api = ApiClient(self.base_url, Bearer(self.account.issue(scope).access), requests.Session())
        return ZendeskDestination(api, Plan("r", self.kinds, self.options, self.rules), self.shelf)

    def sync(self, kind: str, snapshot: Snapshot = SNAPSHOT) -> list[Written]:
        destination = self.destination()
        destination.prepare()
        return [self.write(destination, document) for document in destination.documents(kind, snapshot, TRACE)]

    def write(self, destination: ZendeskDestination, document: Document, changed: frozenset[str] = frozenset()) -> Written:
        ready = replace(document, fields={name: self.resolved(value) for name, value in document.fields.items()})
        known = self.bound.get((document.kind, document.key), Bound())
        parent = str(self.resolved(document.parent)) if document.parent else ""
        written = destination.write(ready, replace(known, parent_id=parent, changed=changed))
        self.bound[document.kind, document.key] = Bound(written.remote_id, parent, written.facts)
        return written

    def resolved(self, value: Value) -> Value:
        return self.bound[value.kind, value.key].remote_id if isinstance(value, Link) else value

    def calls(self) -> list[tuple[str, str, int]]:
        found = [(call.method, call.path.removeprefix("/api/v2/").removesuffix(".json"), call.status) for call in self.account.calls]
        self.account.calls.clear()
        return found


@pytest.fixture
def account() -> Zendesk:
    return Zendesk()


@pytest.fixture
def route(account: Zendesk) -> Iterator[Route]:
    with serving({"zendesk": account}) as url:
        yield Route(account, f"{url}/zendesk")


@pytest.fixture
def provisioned(route: Route) -> Route:
    route.destination().provision(dry_run=False)
    return route


def organizations(account: Zendesk) -> Any:
    return account.state()["organizations"]


def users(account: Zendesk) -> Any:
    return account.state()["users"]


def records(account: Zendesk, kind: str) -> Any:
    return next(one["records"] for one in account.state()["custom_objects"] if one["key"] == kind)


DETAILS = (
    "E-mail: jane@acme.example\nPhone: +1 555 0100\nWebsite: https://acme.example\nAddress: 1 Main St, Springfield\nOpen invoices:\n2026-12"
)


# --- Customers


def test_a_customer_becomes_an_organization_and_a_user(provisioned: Route, account: Zendesk) -> None:
    written = provisioned.sync("customer")
    [organization] = organizations(account)
    values = organization.pop("organization_fields")
    details = organization.pop("details")
    assert organization == {
        "id": int(written[0].remote_id),
        "name": "Acme",
        "external_id": CUSTOMER_KEY,
        "notes": None,
        "tags": [],
    }
    assert details.startswith(DETAILS)
    assert {name: values[name] for name in values if name not in ("wave_open_invoices", "wave_last_payment")} == {
        "wave_email": "jane@acme.example",
        "wave_phone": "+1 555 0100",
        "wave_website": "https://acme.example",
        "wave_address": "1 Main St, Springfield",
        "wave_currency": "USD",
        "wave_outstanding": "120.00",
        "wave_overdue": "0.00",
        "wave_open_count": 1,
        "wave_overdue_count": 0,
        "wave_oldest_overdue_days": 0,
        "wave_recent_changes": "2026-11-19 payment of 30.00 USD",
        "wave_synced_at": "2026-11-20T09:00:00Z",
        "wave_job_id": "41",
    }
    assert "2026-12" in values["wave_open_invoices"] and "30.00" in values["wave_last_payment"]
    assert users(account) == [
        {
            "id": int(written[1].remote_id),
            "name": "Jane Doe",
            "email": "jane@acme.example",
            "emails": ["jane@acme.example"],
            "external_id": CUSTOMER_KEY,
            "role": "end-user",
            "phone": "+1 555 0100",
            "details": None,
            "notes": None,
            "tags": [],
            "organization_ids": [int(written[0].remote_id)],
        }
    ]
    assert [one.created for one in written] == [True, True]
    assert (account.state()["violations"], account.state()["mails"]) == ([], [])


def test_a_known_customer_costs_one_call_each(provisioned: Route) -> None:
    provisioned.sync("customer")
    provisioned.calls()
    written = provisioned.sync("customer", replace(SNAPSHOT, customer=replace(CUSTOMER, phone="")))
    organization, user = (one.remote_id for one in written)
    assert provisioned.calls() == [("PUT", f"organizations/{organization}", 200), ("PUT", f"users/{user}", 200)]
    assert [row["phone"] for row in users(provisioned.account)] == [None]
    assert organizations(provisioned.account)[0]["organization_fields"]["wave_phone"] is None


def test_a_repeated_create_without_memory_makes_nothing_new(provisioned: Route, account: Zendesk) -> None:
    provisioned.sync("customer")
    provisioned.sync("invoice")
    before = account.state()
    provisioned.bound.clear()
    written = provisioned.sync("customer")
    provisioned.sync("invoice")
    assert account.state() == before
    assert written[1].facts == {"ours": True, "organization": written[0].remote_id}


def test_a_deleted_organization_is_made_again_in_the_same_write(provisioned: Route, account: Zendesk) -> None:
    first = provisioned.sync("customer")
    account.delete_organization(int(first[0].remote_id))
    second = provisioned.sync("customer")
    assert second[0].created and second[0].remote_id != first[0].remote_id
    assert users(account)[0]["organization_ids"] == [int(second[0].remote_id)]


def test_an_organization_with_our_key_is_adopted(provisioned: Route, account: Zendesk) -> None:
    theirs = account.add_organization("Acme Incorporated", CUSTOMER_KEY.upper(), notes="call first", domain_names=["acme.example"])
    written = provisioned.sync("customer")
    [organization] = organizations(account)
    assert (organization["id"], organization["name"], organization["notes"]) == (theirs, "Acme", "call first")
    assert (written[0].remote_id, written[0].created) == (str(theirs), False)


def test_equal_wave_names_get_the_customer_number(provisioned: Route, account: Zendesk) -> None:
    account.add_organization("ACME", "wave:b1:customer:6")
    written = provisioned.sync("customer")[0]
    assert [row["name"] for row in organizations(account)] == ["ACME", "Acme (C-7)"]
    assert (written.facts, written.notes) == ({"wanted_name": "Acme", "written_name": "Acme (C-7)"}, ("name_suffixed",))
    provisioned.calls()
    provisioned.sync("customer")
    assert provisioned.calls()[0] == ("PUT", f"organizations/{written.remote_id}", 200)
    renamed = provisioned.sync("customer", replace(SNAPSHOT, customer=replace(CUSTOMER, name="Acme Two")))[0]
    assert [row["name"] for row in organizations(account)] == ["ACME", "Acme Two"]
    assert (renamed.facts, renamed.notes) == ({}, ())


@pytest.mark.parametrize("external_id", [None, "crm-9"])
def test_somebody_elses_name_is_refused_with_the_ways_out(provisioned: Route, account: Zendesk, external_id: str | None) -> None:
    theirs = account.add_organization("acme", external_id)
    with pytest.raises(Rejected) as caught:
        provisioned.sync("customer")
    assert caught.value.code == "name_taken"
    assert f"set its external id to {CUSTOMER_KEY} to adopt it" in str(caught.value)
    assert f"{provisioned.base_url}/agent/organizations/{theirs}" in caught.value.words
    assert [row["name"] for row in organizations(account)] == ["acme"]


def test_a_holder_of_the_name_that_no_search_shows_yet_is_waited_for(provisioned: Route, account: Zendesk) -> None:
    account.add_organization("Acme", "wave:b1:customer:6")
    account.search_lag = 60
    began = datetime.now(UTC)
    with pytest.raises(Transient) as caught:
        provisioned.sync("customer")
    assert (caught.value.code, caught.value.scope, caught.value.unsent) == ("name_taken_unseen", "", True)
    assert caught.value.not_before is not None
    assert timedelta(seconds=60) <= caught.value.not_before - began < timedelta(seconds=65)
    account.search_lag = 0
    provisioned.sync("customer")
    assert [row["name"] for row in organizations(account)] == ["Acme", "Acme (C-7)"]


def test_a_name_that_is_taken_twice_over_is_refused(provisioned: Route, account: Zendesk) -> None:
    account.add_organization("Acme", "wave:b1:customer:6")
    account.add_organization("Acme (C-7)", "crm-9")
    with pytest.raises(Rejected, match="rename the customer"):
        provisioned.sync("customer")


def test_without_our_fields_name_and_details_still_arrive(route: Route, account: Zendesk) -> None:
    route.sync("customer")
    [organization] = organizations(account)
    assert (organization["name"], organization["organization_fields"]) == ("Acme", {})
    assert organization["details"].startswith(DETAILS)


def test_a_field_removed_at_zendesk_is_noticed_and_left_out(provisioned: Route, account: Zendesk) -> None:
    provisioned.sync("customer")
    account.organizations.fields.rows["wave_email"].active = False
    with pytest.raises(Transient) as caught:
        provisioned.sync("customer")
    assert caught.value.code == "set_up_changed"
    provisioned.sync("customer")
    assert "wave_email" not in organizations(account)[0]["organization_fields"]


def test_prepare_asks_once(provisioned: Route) -> None:
    provisioned.calls()
    provisioned.destination().prepare()
    first = provisioned.calls()
    provisioned.destination().prepare()
    assert (first, provisioned.calls()) == (
        [
            ("GET", "organization_fields", 200),
            ("GET", "custom_objects", 200),
            ("GET", "custom_objects/wave_invoice/fields", 200),
            ("GET", "custom_objects/wave_payment/fields", 200),
        ],
        [],
    )


@pytest.mark.parametrize("path", ["organizations/create_or_update", "users/create_or_update"])
def test_a_refusal_that_is_cut_on_its_way_is_asked_again(provisioned: Route, account: Zendesk, path: str) -> None:
    body = b'{"error": "RecordInvalid", "details": {"nam'
    account.faults.append(Fault("status", "POST", path, status=422, body=body))
    with pytest.raises(Transient, match="422 in a body cut short"):
        provisioned.sync("customer")
    assert provisioned.sync("customer")


# --- Contacts


def test_an_existing_user_keeps_name_role_and_organizations(provisioned: Route, account: Zendesk) -> None:
    other = account.add_organization("Other")
    theirs = account.add_user("Janie", "jane@acme.example", role="agent", organization_id=other)
    written = provisioned.sync("customer")
    renamed = replace(SNAPSHOT, customer=replace(CUSTOMER, first_name="Joan"))
    provisioned.sync("customer", renamed)
    [user] = users(account)
    assert (user["id"], user["name"], user["role"], user["external_id"]) == (theirs, "Janie", "agent", None)
    assert user["organization_ids"] == sorted([other, int(written[0].remote_id)])
    assert written[1].facts["ours"] is False


@pytest.mark.parametrize("email", ["jane+news@acme.example", "jane@acme.example.org", "xjane@acme.example"])
def test_a_search_hit_with_another_address_is_nobody(provisioned: Route, account: Zendesk, email: str) -> None:
    theirs = account.add_user("Janie", email)
    hit = {"users": [{"id": theirs, "email": email, "external_id": None}]}
    account.faults.append(Fault("status", "GET", "users/search", status=200, body={"users": []}))
    account.faults.append(Fault("status", "GET", "users/search", status=200, body=hit))
    provisioned.sync("customer")
    found = [(user["name"], user["emails"], user["external_id"]) for user in users(account)]
    assert found == [("Jane Doe", ["jane@acme.example"], CUSTOMER_KEY), ("Janie", [email], None)]


def test_a_search_hit_that_is_gone_is_nobody(provisioned: Route, account: Zendesk) -> None:
    hit = {"users": [{"id": 999, "email": "old@acme.example", "external_id": None}]}
    account.faults.append(Fault("status", "GET", "users/search", status=200, body={"users": []}))
    account.faults.append(Fault("status", "GET", "users/search", status=200, body=hit))
    assert provisioned.sync("customer")[1].created
    assert [user["name"] for user in users(account)] == ["Jane Doe"]


def test_a_user_is_found_by_a_further_address_without_case(provisioned: Route, account: Zendesk) -> None:
    theirs = account.add_user("Janie", "janie@acme.example")
    account.users.update(account.users.find(theirs), {"email": "jane@acme.example"})
    written = provisioned.sync("customer", replace(SNAPSHOT, customer=replace(CUSTOMER, email="Jane@ACME.example")))
    assert (written[1].remote_id, [user["name"] for user in users(account)]) == (str(theirs), ["Janie"])


def test_several_users_with_the_address_are_shown_not_guessed(provisioned: Route, account: Zendesk) -> None:
    rows = [{"id": number, "email": email} for number, email in enumerate(("JANE@acme.example", "jane@acme.example"), 1)]
    account.faults.append(Fault("status", "GET", "users/search", status=200, body={"users": []}))
    account.faults.append(Fault("status", "GET", "users/search", status=200, body={"users": rows}))
    with pytest.raises(Rejected, match="several users have the e-mail address: 1, 2") as caught:
        provisioned.sync("customer")
    assert caught.value.code == "ambiguous"


def test_a_user_with_an_external_id_keeps_it(provisioned: Route, account: Zendesk) -> None:
    account.add_user("Janie", "jane@acme.example", external_id="crm-4")
    provisioned.sync("customer")
    assert [(user["name"], user["external_id"]) for user in users(account)] == [("Janie", "crm-4")]


def test_our_user_follows_name_and_address(provisioned: Route, account: Zendesk) -> None:
    provisioned.sync("customer")
    destination = provisioned.destination()
    destination.prepare()
    moved = replace(SNAPSHOT, customer=replace(CUSTOMER, first_name="Joan", email="joan@acme.example"))
    document = destination.documents("customer", moved, TRACE)[1]
    provisioned.write(destination, document, frozenset({"name", "email"}))
    [user] = users(account)
    assert (user["name"], user["emails"]) == ("Joan Doe", ["jane@acme.example", "joan@acme.example"])
    assert account.state()["mails"] == []


def test_a_new_address_leaves_a_foreign_user_and_finds_another(provisioned: Route, account: Zendesk) -> None:
    account.add_user("Janie", "jane@acme.example")
    provisioned.sync("customer")
    destination = provisioned.destination()
    destination.prepare()
    document = destination.documents("customer", replace(SNAPSHOT, customer=replace(CUSTOMER, email="new@acme.example")), TRACE)[1]
    written = provisioned.write(destination, document, frozenset({"email"}))
    found = [(user["name"], user["emails"], user["external_id"]) for user in users(account)]
    assert found == [("Jane Doe", ["new@acme.example"], CUSTOMER_KEY), ("Janie", ["jane@acme.example"], None)]
    assert written.created and written.facts["ours"] is True


def test_a_foreign_user_who_carries_our_key_all_the_same_is_left_when_the_address_changes(provisioned: Route, account: Zendesk) -> None:
    """An upsert meets a user whom the search did not show yet, and gives them the key."""
    account.search_lag = 60
    account.add_user("Janie", "jane@acme.example")
    assert provisioned.sync("customer")[1].facts["ours"] is False
    account.search_lag = 0
    before = users(account)
    destination = provisioned.destination()
    destination.prepare()
    document = destination.documents("customer", replace(SNAPSHOT, customer=replace(CUSTOMER, email="new@acme.example")), TRACE)[1]
    written = provisioned.write(destination, document, frozenset({"email"}))
    assert written.created and written.facts["ours"] is True
    assert [user["emails"] for user in users(account)] == [["jane@acme.example"], ["new@acme.example"]]
    assert [user for user in users(account) if user["emails"] == ["jane@acme.example"]] == before


@pytest.mark.parametrize("changed", [{"first_name": "Joan"}, {"phone": "5"}, {"email": "joan@acme.example"}])
def test_a_user_whose_create_got_no_answer_is_ours_although_the_customer_changed_since(
    provisioned: Route, account: Zendesk, changed: dict[str, Any]
) -> None:
    account.faults.append(Fault("lost", "POST", "users/create_or_update"))
    with pytest.raises(Transient):
        provisioned.sync("customer")
    moved = replace(SNAPSHOT, customer=replace(CUSTOMER, **changed))
    written = provisioned.sync("customer", moved)[1]
    assert (written.facts["ours"], written.created) == (True, False)
    [user] = users(account)
    assert (user["name"], user["phone"], user["emails"][-1]) == (
        f"{changed.get('first_name', 'Jane')} Doe",
        changed.get("phone", CUSTOMER.phone or None),
        changed.get("email", "jane@acme.example"),
    )


def test_a_user_of_a_bulk_job_is_ours_although_the_customer_changed_since(provisioned: Route, account: Zendesk) -> None:
    provisioned.sync("customer")
    [user] = users(account)
    destination = provisioned.destination()
    destination.prepare()
    document = destination.documents("customer", replace(SNAPSHOT, customer=replace(CUSTOMER, first_name="Joan")), TRACE)[1]
    written = destination.write(document, Bound(str(user["id"])))
    assert (written.facts["ours"], [one["name"] for one in users(account)]) == (True, ["Joan Doe"])


def test_a_membership_that_exists_is_no_error(provisioned: Route, account: Zendesk) -> None:
    organization = account.add_organization("Acme", CUSTOMER_KEY)
    account.add_user("Janie", "jane@acme.example", organization_id=organization)
    provisioned.sync("customer")
    assert users(account)[0]["organization_ids"] == [organization]


def test_a_membership_in_a_deleted_organization_names_the_parent(provisioned: Route) -> None:
    destination = provisioned.destination()
    destination.prepare()
    document = destination.documents("customer", SNAPSHOT, TRACE)[1]
    with pytest.raises(Rejected) as caught:
        destination.write(document, Bound(parent_id="999"))
    assert caught.value.code == "parent_missing"


@pytest.mark.parametrize(("email", "contacts"), [("", True), ("jane@acme.example", False)])
def test_no_address_or_no_wish_makes_no_user(provisioned: Route, account: Zendesk, email: str, contacts: bool) -> None:
    provisioned.options["contacts"] = contacts
    provisioned.sync("customer", replace(SNAPSHOT, customer=replace(CUSTOMER, email=email)))
    assert users(account) == []


def test_several_users_with_the_key_are_shown_not_guessed(provisioned: Route, account: Zendesk) -> None:
    body = {"users": [{"id": 1, "external_id": CUSTOMER_KEY}, {"id": 2, "external_id": CUSTOMER_KEY}]}
    account.faults.append(Fault("status", "GET", "users/search", status=200, body=body))
    with pytest.raises(Rejected, match="several users have the key: 1, 2"):
        provisioned.sync("customer")
    assert users(account) == []


# --- Faults


@pytest.mark.parametrize("path", ["organizations/create_or_update", "users/create_or_update", "organization_memberships"])
def test_a_lost_answer_is_healed_by_writing_again(provisioned: Route, account: Zendesk, path: str) -> None:
    account.faults.append(Fault("lost", "POST", path))
    with pytest.raises(Transient):
        provisioned.sync("customer")
    provisioned.sync("customer")
    state = account.state()
    assert (len(state["organizations"]), len(state["users"]), len(state["users"][0]["organization_ids"])) == (1, 1, 1)
    assert provisioned.bound["user", CUSTOMER_KEY].facts["ours"] is True


def test_the_sixth_update_in_a_minute_holds_the_organization_only(provisioned: Route) -> None:
    provisioned.options["contacts"] = False
    for _ in range(5):
        provisioned.sync("customer")
    with pytest.raises(Transient) as caught:
        provisioned.sync("customer")
    assert (caught.value.code, caught.value.scope) == ("rate_limited", "object")


def test_a_used_up_account_holds_the_connection(provisioned: Route, account: Zendesk) -> None:
    account.limit_per_minute = 1
    provisioned.destination().ping()
    with pytest.raises(Transient) as caught:
        provisioned.sync("customer")
    assert (caught.value.code, caught.value.scope) == ("rate_limited", "connection")


# --- Invoices and payments


def test_an_invoice_becomes_a_record_with_its_payments(provisioned: Route, account: Zendesk) -> None:
    organization = provisioned.sync("customer")[0].remote_id
    written = provisioned.sync("invoice")
    assert records(account, "wave_invoice") == [
        {
            "id": written[0].remote_id,
            "name": "2026-12",
            "external_id": INVOICE_KEY,
            "custom_object_fields": {
                "organization": organization,
                "status": "PARTIAL",
                "po_number": None,
                "issued_on": "2026-11-01T00:00:00+00:00",
                "due_on": "2026-12-01T00:00:00+00:00",
                "total": "150.00",
                "paid": "30.00",
                "due": "120.00",
                "currency": "USD",
                "url": "https://next.waveapps.com/i/12",
                "synced_at": "2026-11-20T09:00:00Z",
                "job_id": "41",
            },
        }
    ]
    assert records(account, "wave_payment") == [
        {
            "id": written[1].remote_id,
            "name": "2026-12: 30.00 USD",
            "external_id": PAYMENT_KEY,
            "custom_object_fields": {
                "organization": organization,
                "invoice": written[0].remote_id,
                "amount": "30.00",
                "currency": "USD",
                "paid_on": "2026-11-19T00:00:00+00:00",
                "method": "CASH",
                "memo": None,
                "synced_at": "2026-11-20T09:00:00Z",
                "job_id": "41",
            },
        }
    ]


def test_a_changed_invoice_replaces_what_the_record_says(provisioned: Route, account: Zendesk) -> None:
    provisioned.sync("customer")
    provisioned.sync("invoice")
    provisioned.calls()
    changed = replace(INVOICE, number="2026-13", status="PAID", due=Money(Decimal("0.00"), "USD"), due_on=None, url="", payments=())
    written = provisioned.sync("invoice", replace(SNAPSHOT, invoice=changed))
    assert provisioned.calls() == [("PATCH", f"custom_objects/wave_invoice/records/{written[0].remote_id}", 200)]
    [record] = records(account, "wave_invoice")
    values = record["custom_object_fields"]
    assert (record["name"], values["status"], values["due"], values["due_on"], values["url"]) == ("2026-13", "PAID", "0.00", None, None)


def test_a_deleted_record_is_made_again_in_the_same_write(provisioned: Route, account: Zendesk) -> None:
    provisioned.sync("customer")
    first = provisioned.sync("invoice")[0]
    account.delete_record(INVOICE_KEY)
    second = provisioned.sync("invoice")[0]
    assert second.created and second.remote_id != first.remote_id
    assert [record["external_id"] for record in records(account, "wave_invoice")] == [INVOICE_KEY]


def test_a_stub_carries_an_invoice_that_comes_first(provisioned: Route, account: Zendesk) -> None:
    destination = provisioned.destination()
    destination.prepare()
    stub = destination.stub(replace(SNAPSHOT, customer=None), TRACE)
    assert stub == Document("organization", CUSTOMER_KEY, {"name": "Acme"}, partial=True, modified_at=AT)
    written = provisioned.write(destination, stub)
    provisioned.sync("invoice")
    assert records(account, "wave_invoice")[0]["custom_object_fields"]["organization"] == written.remote_id


def test_an_invoice_of_a_deleted_organization_names_the_parent(provisioned: Route, account: Zendesk) -> None:
    organization = provisioned.sync("customer")[0].remote_id
    account.delete_organization(int(organization))
    with pytest.raises(Rejected) as caught:
        provisioned.sync("invoice")
    assert caught.value.code == "parent_missing"


def test_a_removed_payment_is_deleted_and_may_be_gone_already(provisioned: Route, account: Zendesk) -> None:
    provisioned.sync("customer")
    payment = provisioned.sync("invoice")[1]
    for _ in range(2):
        provisioned.destination().remove("wave_payment", Bound(payment.remote_id))
    assert records(account, "wave_payment") == []


def test_organizations_are_never_deleted(provisioned: Route) -> None:
    with pytest.raises(Rejected, match="never deleted"):
        provisioned.destination().remove("organization", Bound("1"))


def test_a_gone_invoice_is_marked_and_keeps_the_rest(provisioned: Route, account: Zendesk) -> None:
    provisioned.sync("customer")
    provisioned.sync("invoice")
    destination = provisioned.destination()
    destination.prepare()
    [mark] = destination.gone("invoice", INVOICE_KEY, TRACE)
    provisioned.write(destination, mark)
    [record] = records(account, "wave_invoice")
    values = record["custom_object_fields"]
    assert (record["name"], values["currency"], values["due_on"]) == ("2026-12", "USD", "2026-12-01T00:00:00+00:00")
    assert {name: values[name] for name in ("status", "total", "paid", "due")} == {
        "status": "DELETED",
        "total": "0.00",
        "paid": "0.00",
        "due": "0.00",
    }
    assert destination.gone("customer", CUSTOMER_KEY, TRACE) == []


def test_find_returns_what_carries_the_key(provisioned: Route) -> None:
    written = [*provisioned.sync("customer"), *provisioned.sync("invoice")]
    destination = provisioned.destination()
    destination.prepare()
    documents = [*destination.documents("customer", SNAPSHOT, TRACE), *destination.documents("invoice", SNAPSHOT, TRACE)]
    assert [destination.find(document, Bound()) for document in documents] == [[one.remote_id] for one in written]


def test_invoices_only_routes_write_no_payments(provisioned: Route, account: Zendesk) -> None:
    provisioned.kinds = ("customer", "invoice")
    provisioned.sync("customer")
    assert len(provisioned.sync("invoice")) == 1


# --- Storage


STORAGE = [
    ("auto", True, True, "custom_object", ""),
    ("auto", True, False, "organization_fields", "run provision"),
    ("auto", False, False, "organization_fields", "plan"),
    ("organization_fields", True, True, "organization_fields", "chosen"),
]


@pytest.mark.parametrize(("option", "on_plan", "provision", "mode", "note"), STORAGE)
def test_the_account_decides_where_invoices_go(
    route: Route, account: Zendesk, option: str, on_plan: bool, provision: bool, mode: str, note: str
) -> None:
    account.custom_objects = on_plan
    if provision:
        route.destination().provision(dry_run=False)
    route.options["invoice_storage"] = option
    destination = route.destination()
    destination.prepare()
    assert len(destination.documents("invoice", SNAPSHOT, TRACE)) == (2 if mode == "custom_object" else 0)
    assert destination.notes == ([] if mode == "custom_object" else ["kept_in_organization_fields"])
    assert route.shelf["storage"]["mode"] == mode and note in route.shelf["storage"]["note"]


def test_records_that_were_insisted_on_are_not_left_out_silently(route: Route) -> None:
    route.options["invoice_storage"] = "custom_object"
    with pytest.raises(Unmappable) as caught:
        route.sync("invoice")
    assert (caught.value.code, "run provision" in str(caught.value)) == ("no_custom_objects", True)


def test_an_object_deleted_meanwhile_ends_in_organization_fields(provisioned: Route, account: Zendesk) -> None:
    provisioned.sync("customer")
    provisioned.sync("invoice")
    account.objects.rows.clear()
    with pytest.raises(Transient, match="have changed"):
        provisioned.sync("invoice")
    assert provisioned.sync("invoice") == []


# --- Provision


def test_provisioning_twice_creates_once(route: Route, account: Zendesk) -> None:
    planned = route.destination().provision(dry_run=True)
    assert account.writes() == []
    first = route.destination().provision(dry_run=False)
    state = account.state()
    second = route.destination().provision(dry_run=False)
    assert [step.what for step in planned] == [step.what for step in first] == [step.what for step in second]
    changes = [{step.change for step in steps} for steps in (planned, first, second)]
    assert changes == [{"create"}, {"created"}, {"exists"}]
    assert account.state() == state


def test_provisioning_makes_what_the_defaults_fill(provisioned: Route, account: Zendesk) -> None:
    state = account.state()
    columns = sorted(mapping.COLUMNS["customer"], key=lambda column: column.key)
    assert state["organization_fields"] == [
        {"key": column.key, "type": column.type, "title": column.title, "active": True, "target": None} for column in columns
    ]
    shown = {one["key"]: {row["key"]: (row["type"], row["target"]) for row in one["fields"]} for one in state["custom_objects"]}
    own = {kind: {column.key: (column.type, None) for column in mapping.COLUMNS[kind]} for kind in ("invoice", "payment")}
    organization: Mapping[str, Any] = {"organization": ("lookup", "zen:organization")}
    assert shown == {
        "wave_invoice": {**own["invoice"], **organization},
        "wave_payment": {**own["payment"], **organization, "invoice": ("lookup", "zen:custom_object:wave_invoice")},
    }
    assert [one["include_in_list_view"] for one in state["custom_objects"]] == [True, True]
    assert state["violations"] == []


def test_an_agent_is_told_what_an_admin_must_add(route: Route, account: Zendesk) -> None:
    account.admin = False
    steps = route.destination().provision(dry_run=False)
    assert {step.change for step in steps} == {"by_hand"}
    assert 'Organization fields: add key "wave_email", type "text", title "Wave e-mail"' in steps[0].detail
    assert account.state()["organization_fields"] == []


def test_only_a_provision_takes_the_word_of_an_account_that_it_has_no_records_any_more(provisioned: Route, account: Zendesk) -> None:
    account.custom_objects = False
    for name in ("objects", "storage"):
        provisioned.shelf.pop(name, None)  # a day has gone by
    with pytest.raises(Rejected):
        provisioned.destination().prepare()
    provisioned.destination().provision(dry_run=False)
    provisioned.destination().prepare()
    assert provisioned.shelf["storage"]["mode"] == "organization_fields"


def test_a_plan_without_custom_objects_needs_none(route: Route, account: Zendesk) -> None:
    account.custom_objects = False
    last = route.destination().provision(dry_run=False)[-1]
    assert (last.what, last.change) == ("invoice storage", "exists")
    route.options["invoice_storage"] = "custom_object"
    assert route.destination().provision(dry_run=False)[-1].change == "by_hand"


def test_a_refused_lookup_becomes_the_invoice_number(route: Route, account: Zendesk) -> None:
    no_lookup = {"error": "RecordInvalid", "details": {"relationship_target_type": [{"description": "is not valid"}]}}
    path = "custom_objects/wave_payment/fields"
    fine = [Fault("status", "POST", path, status=201, body={}), Fault("status", "POST", path, status=422, body=no_lookup)]
    account.faults.extend(fine)
    route.destination().provision(dry_run=False)
    route.sync("customer")
    route.sync("invoice")
    values = records(account, "wave_payment")[0]["custom_object_fields"]
    assert values["invoice"] == "2026-12"


def test_a_mapped_field_that_nobody_has_is_named(route: Route) -> None:
    route.rules = (*RULES, FieldRule("customer", "vip", "{{ customer.name }}"))
    steps = route.destination().provision(dry_run=True)
    advice = "A mapping fills it, but there is no such field: add it, or correct the mapping."
    assert Step("organization field vip", "by_hand", advice) in steps


def test_provisioning_lets_the_next_run_learn_anew(route: Route, account: Zendesk) -> None:
    route.sync("customer")
    route.destination().provision(dry_run=False)
    route.sync("customer")
    assert organizations(account)[0]["organization_fields"]["wave_currency"] == "USD"


# --- Ping


def test_a_good_connection_passes(route: Route) -> None:
    assert [(check.name, check.ok, check.detail) for check in route.destination().ping()] == [
        ("credentials", True, "Connector (35436), admin"),
        ("organizations", True, "about 0"),
        ("scopes", True, "read write"),
    ]


def test_a_dead_token_is_seen_through_the_anonymous_answer(route: Route, account: Zendesk) -> None:
    destination = route.destination()
    account.expire(account.tokens.grants[-1].access)
    assert [(check.name, check.ok) for check in destination.ping()] == [("credentials", False), ("organizations", False), ("scopes", False)]
    assert destination.ping()[0].detail == "Zendesk sees an anonymous user"


def test_a_misspelt_scope_is_named(route: Route) -> None:
    checks = route.destination("raed write").ping()
    assert checks[-1] == Check(
        "scopes",
        False,
        "granted: raed write; lacking: organizations:read, users:read",
        'Correct the scope of the connection, "read write" fits always, and the allowed scopes of the OAuth client.',
    )


def test_a_vendor_that_is_down_fails_the_check_without_raising(route: Route, account: Zendesk) -> None:
    account.faults.append(Fault("status", times=0, status=503))
    assert [(check.ok, check.advice) for check in route.destination().ping()] == [(False, "Try again later.")] * 3


def test_a_missing_right_is_named_without_the_vendors_words(route: Route, account: Zendesk) -> None:
    body = {"error": {"title": "Forbidden", "message": "Jane Doe may not do that"}}
    account.faults.append(Fault("status", times=0, status=403, body=body))
    checks = route.destination().ping()
    assert [(check.name, check.ok, check.advice) for check in checks] == [
        ("credentials", False, "Needs users:read and users:write, and an agent who may change users."),
        (
            "organizations",
            False,
            "Needs organizations:read and organizations:write, and an agent who may change organizations (not only their notes).",
        ),
        ("scopes", False, "Needs the right to use oauth."),
    ]
    assert "Jane" not in " ".join(check.detail for check in checks)


# --- Values


@pytest.mark.parametrize(
    ("value", "kind", "sent"),
    [
        (Decimal("120.00"), "decimal", "120.00"),
        (Decimal("1E+3"), "decimal", "1000"),
        (Decimal("0.00"), "text", "0.00"),
        (3, "integer", 3),
        (0, "integer", 0),
        (3, "text", "3"),
        (date(2026, 1, 2), "date", "2026-01-02"),
        (True, "checkbox", True),
        (False, "checkbox", False),
        ("Yes", "checkbox", True),
        ("no", "checkbox", False),
        (True, "text", "true"),
        (True, "integer", "true"),
        ("", "text", None),
        ("  \n", "text", None),
        (None, "integer", None),
        ("x" * 60_001, "textarea", "x" * 60_000),
        (Link("organization", "k"), "lookup", Link("organization", "k")),
    ],
)
def test_values_are_sent_as_zendesk_takes_them(value: Value, kind: str, sent: Value) -> None:
    assert mapping.wire(value, kind) == sent


def test_long_names_are_cut_with_their_number_kept() -> None:
    assert mapping.suffixed("a" * 255, "C-7") == "a" * 249 + " (C-7)"
