"""Zendesk read in bulk: who is found, what it costs, and what counts as drift."""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import responses
from hypothesis import given
from hypothesis import strategies as st

from integrations.core.documents import Document, Link, Observed, Value
from integrations.core.errors import Rejected, Transient
from integrations.core.ports import FieldRule
from integrations.destinations.zendesk import mapping, observing
from integrations.destinations.zendesk.client import ZendeskClient
from integrations.sandbox import zendesk_fields
from integrations.sandbox.server import serving
from integrations.sandbox.zendesk import Zendesk
from tests.destinations.test_zendesk_destination import CUSTOMER_KEY, INVOICE_KEY, PAYMENT_KEY, RULES, SNAPSHOT, TRACE, Route

BASE = "https://acme.zendesk.com"


@pytest.fixture
def account() -> Zendesk:
    return Zendesk()


@pytest.fixture
def route(account: Zendesk) -> Iterator[Route]:
    with serving({"zendesk": account}) as url:
        found = Route(account, f"{url}/zendesk")
        found.destination().provision(dry_run=False)
        found.sync("customer")
        found.sync("invoice")
        account.calls.clear()
        yield found


def id_of(route: Route, kind: str, key: str) -> str:
    return route.bound[kind, key].remote_id


def wanted(route: Route) -> list[Document]:
    """Return what should exist, with ids in place of links."""
    destination = route.destination()
    destination.prepare()
    documents = [*destination.documents("customer", SNAPSHOT, TRACE), *destination.documents("invoice", SNAPSHOT, TRACE)]
    return [replace(one, fields={name: route.resolved(value) for name, value in one.fields.items()}) for one in documents]


def drifts(route: Route) -> dict[str, frozenset[str]]:
    """Return what a run with everything known finds to differ, by kind."""
    destination = route.destination()
    destination.prepare()
    found = {}
    for document in wanted(route):
        seen = destination.observe(document.kind, {document.key: id_of(route, document.kind, document.key)})
        found[document.kind] = destination.drift(document, seen[document.key])
    return found


NOTHING: dict[str, frozenset[str]] = dict.fromkeys(("organization", "user", "wave_invoice", "wave_payment"), frozenset())


def test_what_was_just_written_has_no_drift(route: Route) -> None:
    assert drifts(route) == NOTHING


def test_each_edit_by_hand_is_drift_of_that_field(route: Route, account: Zendesk) -> None:
    organization = account.organizations.rows[int(id_of(route, "organization", CUSTOMER_KEY))]
    organization.values["wave_outstanding"], organization.details = "120.01", None
    account.users.rows[int(id_of(route, "user", CUSTOMER_KEY))].phone = "+1 555 0199"
    invoice = account.objects.rows["wave_invoice"].records[id_of(route, "wave_invoice", INVOICE_KEY)]
    invoice.values |= {"due_on": "2026-12-02T00:00:00+00:00", "organization": "1"}
    account.objects.rows["wave_payment"].records[id_of(route, "wave_payment", PAYMENT_KEY)].name = "another"
    assert drifts(route) == {
        "organization": {"wave_outstanding", "details"},
        "user": {"phone"},
        "wave_invoice": {"due_on", "organization"},
        "wave_payment": {"name"},
    }


def test_the_amounts_are_those_that_the_mappings_show_as_due(route: Route) -> None:
    destination = route.destination()
    destination.prepare()
    keys = {"organization": CUSTOMER_KEY, "wave_invoice": INVOICE_KEY, "wave_payment": PAYMENT_KEY, "user": CUSTOMER_KEY}
    amounts = {kind: destination.observe(kind, {key: ""})[key].amount for kind, key in keys.items()}
    assert amounts == {"organization": Decimal("120"), "wave_invoice": Decimal("120"), "wave_payment": Decimal("30"), "user": None}
    assert {kind: destination.shows_amount(kind) for kind in keys} == {kind: amount is not None for kind, amount in amounts.items()}


def test_without_a_mapping_that_shows_it_there_is_no_amount(route: Route) -> None:
    route.rules = tuple(rule for rule in RULES if rule.target != "due")
    destination = route.destination()
    destination.prepare()
    assert destination.observe("wave_invoice", {INVOICE_KEY: ""})[INVOICE_KEY].amount is None
    assert not destination.shows_amount("wave_invoice")


def test_a_hundred_cost_one_call_and_what_is_not_there_is_left_out(route: Route, account: Zendesk) -> None:
    destination = route.destination()
    destination.prepare()
    many = {f"wave:b1:customer:{number}": "" for number in range(1, 101)}
    for key in sorted(many)[:20]:
        if key != CUSTOMER_KEY:
            account.add_organization(f"Company {key}", key.upper())
    account.calls.clear()
    found = destination.observe("organization", many)
    assert sorted(found) == sorted({*sorted(many)[:20], CUSTOMER_KEY})
    assert {found[key].held["name"] for key in found if key != CUSTOMER_KEY} == {f"Company {key}" for key in found if key != CUSTOMER_KEY}
    assert [(call.method, call.path, call.status) for call in account.calls] == [("GET", "/api/v2/organizations/show_many", 200)]


def test_nothing_wanted_costs_nothing(route: Route, account: Zendesk) -> None:
    destination = route.destination()
    assert [destination.observe(kind, {}) for kind in destination.observes] == [{}, {}, {}, {}]
    assert account.calls == []


def test_a_hundred_and_one_are_a_defect_that_the_vendor_refuses(route: Route) -> None:
    with pytest.raises(Rejected):
        route.destination().observe("organization", {f"wave:b1:customer:{number}": "" for number in range(101)})


def test_the_address_with_a_hundred_of_the_longest_keys_stays_below_eight_kilobytes(route: Route, account: Zendesk) -> None:
    keys = [f"wave:01234567-89ab-cdef-0123-456789abcdef:invoice:{10**18 + number}" for number in range(100)]
    assert route.destination().observe("wave_invoice", dict.fromkeys(keys, "")) == {}
    [call] = account.calls
    assert len(call.path) + len(call.query) < 8000


def test_users_are_found_by_id_where_one_is_known_whatever_key_they_carry(route: Route, account: Zendesk) -> None:
    other = str(account.add_user("Other", "o@acme.example", external_id="crm-1"))
    account.add_user("New", "n@acme.example", external_id="wave:b1:customer:9")
    mine = id_of(route, "user", CUSTOMER_KEY)
    wanted = {CUSTOMER_KEY: mine, "wave:b1:customer:8": other, "wave:b1:customer:9": "", "wave:b1:customer:10": ""}
    found = route.destination().observe("user", wanted)
    assert {key: seen.held["name"] for key, seen in found.items()} == {
        CUSTOMER_KEY: "Jane Doe",
        "wave:b1:customer:8": "Other",
        "wave:b1:customer:9": "New",
    }
    assert [call.path for call in account.calls] == ["/api/v2/users/show_many"] * 2


def test_users_that_are_all_known_cost_one_call(route: Route, account: Zendesk) -> None:
    route.destination().observe("user", {CUSTOMER_KEY: id_of(route, "user", CUSTOMER_KEY)})
    assert len(account.calls) == 1


@pytest.fixture
def net() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


def offline() -> ZendeskClient:
    route = Route(Zendesk(), BASE)
    return ZendeskClient(route.destination().api)


def organization(number: int, key: str) -> dict[str, Any]:
    return {"id": number, "name": f"Company {number}", "external_id": key, "organization_fields": None}


def test_two_with_one_key_are_twins_unless_one_of_them_is_known(net: responses.RequestsMock) -> None:
    rows = [organization(2, "WAVE:x"), organization(1, "wave:x")]
    net.get(f"{BASE}/api/v2/organizations/show_many", json={"organizations": rows, "next_page": None})
    assert observing.observe(offline(), "organization", {"wave:x": ""}, ()) == {"wave:x": Observed("", twins=("1", "2"))}
    assert observing.observe(offline(), "organization", {"wave:x": "2"}, ())["wave:x"].remote_id == "2"


def test_records_are_compared_with_case_and_deleted_users_are_none(net: responses.RequestsMock) -> None:
    record = {"id": "01A", "name": "1", "external_id": "WAVE:x", "custom_object_fields": {}}
    net.get(f"{BASE}/api/v2/custom_objects/wave_invoice/records", json={"custom_object_records": [record], "meta": {}})
    net.get(f"{BASE}/api/v2/users/show_many", json={"users": [{"id": 1, "external_id": "wave:x", "active": False}]})
    assert observing.observe(offline(), "wave_invoice", {"wave:x": ""}, ()) == {}
    assert observing.observe(offline(), "user", {"wave:x": ""}, ()) == {}


def test_an_answer_without_rows_is_none(net: responses.RequestsMock) -> None:
    net.get(f"{BASE}/api/v2/organizations/show_many", body="<html>")
    with pytest.raises(Transient) as caught:
        observing.observe(offline(), "organization", {"wave:x": ""}, ())
    assert caught.value.code == "bad_answer"


# --- Drift, form by form

TYPES = {
    "amount": "decimal",
    "count": "integer",
    "due_on": "date",
    "paid": "checkbox",
    "kind": "dropdown",
    "kinds": "multiselect",
    "memo": "textarea",
    "organization": "lookup",
    "name": "text",
}
ROWS: list[tuple[str, Value, Any, bool]] = [
    ("amount", "120.00", 120, True),
    ("amount", "120.00", 120.0, True),
    ("amount", "120.00", "120", True),
    ("amount", "120.00", "120.0000", True),
    ("amount", "120.00", "120.01", False),
    ("amount", "120.10", 120.1, True),
    ("amount", "0.00", None, False),
    ("amount", None, None, True),
    ("amount", None, "0", False),
    ("count", 3, "3", True),
    ("count", "3", 3, True),
    ("count", 3, 4, False),
    ("due_on", "2018-11-04", "2018-11-04T00:00:00+00:00", True),
    ("due_on", "2018-11-04", "2018-11-05T00:00:00+00:00", False),
    ("due_on", None, "", True),
    ("paid", None, False, True),
    ("paid", False, None, True),
    ("paid", True, "true", True),
    ("paid", True, None, False),
    ("kind", "cash", "cash", True),
    ("kind", "cash", "card", False),
    ("kinds", "cash", ["cash"], True),
    ("kinds", None, [], True),
    ("memo", "a\nb", "a\r\nb\r\n", True),
    ("memo", None, "", True),
    ("memo", "a", None, False),
    ("organization", "12", 12, True),
    ("organization", "12", "13", False),
    ("organization", None, None, True),
    ("organization", "12", None, False),
    ("organization", Link("organization", CUSTOMER_KEY), "13", True),
]


@pytest.mark.parametrize(("name", "want", "held", "same"), ROWS)
def test_values_in_the_vendors_own_forms(name: str, want: Value, held: Any, same: bool) -> None:
    document = Document("wave_invoice", INVOICE_KEY, {name: want})
    found = observing.drift(document, Observed("1", {name: held}), TYPES, ())
    assert found == (set() if same else {name})


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text(),
    "textarea": st.text(),
    "decimal": st.decimals(min_value=-10_000_000, max_value=10_000_000, places=2),
    "integer": st.integers(),
    "date": st.dates(),
    "checkbox": st.booleans(),
}


@given(st.sampled_from(sorted(VALUES)).flatmap(lambda kind: st.tuples(st.just(kind), st.none() | VALUES[kind])))
def test_whatever_is_written_is_held_as_the_vendor_keeps_it(case: tuple[str, Any]) -> None:
    kind, value = case
    wired = mapping.wire(value, kind)
    kept = None if wired is None else zendesk_fields.TYPES[kind](zendesk_fields.Field(1, "f", kind, "F", "", ""), wired)
    assert observing.drift(Document("organization", CUSTOMER_KEY, {"f": wired}), Observed("1", {"f": kept}), {"f": kind}, ()) == frozenset()


def test_a_field_that_the_account_does_not_show_or_have_is_no_drift() -> None:
    document = Document("wave_invoice", INVOICE_KEY, {"amount": "1.00", "gone": "x"})
    assert observing.drift(document, Observed("1", {"gone": "y"}), TYPES, ()) == frozenset()
    assert observing.drift(document, Observed("1"), TYPES, ()) == frozenset()


def test_a_field_called_like_a_standard_member_is_not_taken_for_it() -> None:
    document = Document("organization", CUSTOMER_KEY, {"name": "Acme"})
    row = {"id": 1, "external_id": CUSTOMER_KEY, "name": "Acme", "organization_fields": {"name": "other"}}
    assert observing._held("organization", row)["name"] == "Acme"
    assert observing.drift(document, Observed("1", {"name": "Other"}), TYPES, ()) == {"name"}


@pytest.mark.parametrize(
    ("held", "same"), [("Acme", True), ("Acme (C-7)", True), ("Acme (7)", True), ("Acme (8)", False), ("Acme Ltd", False)]
)
def test_a_name_that_got_the_customers_number_is_held(route: Route, held: str, same: bool) -> None:
    destination = route.destination()
    destination.prepare()
    [document, _] = destination.documents("customer", SNAPSHOT, TRACE)
    assert ("name" in destination.drift(document, Observed("1", {"name": held}))) is not same


USER = Document("user", CUSTOMER_KEY, {"name": "Jane Doe", "email": "jane@acme.example", "phone": "+1 555 0100"})
USERS: list[tuple[dict[str, Any], set[str]]] = [
    ({"name": "Jane Doe", "email": "jane@acme.example", "phone": "+15550100"}, set()),
    ({"name": "Jane Doe", "email": "jane.doe@acme.example", "phone": "+1 555 0100"}, set()),
    ({"name": "Jane Doe", "email": None, "phone": None}, {"phone"}),
    ({"name": "Jane", "email": "jane@acme.example", "phone": "+1 555 0100", "role": "end-user"}, {"name"}),
    ({"name": "Jane", "email": "jane@acme.example", "phone": "+1 555 0100", "role": "agent"}, set()),
]


@pytest.mark.parametrize(("held", "found"), USERS)
def test_a_users_address_is_never_drift_and_an_agent_is_never_ours(held: dict[str, Any], found: set[str]) -> None:
    assert observing.drift(USER, Observed("1", held), {}, ()) == found


def test_an_amount_in_a_text_field_is_read_too(account: Zendesk) -> None:
    rules = (FieldRule("customer", "details", "{{ customer.outstanding }}"),)
    with serving({"zendesk": account}) as url:
        small = Route(account, f"{url}/zendesk", rules=rules, kinds=("customer",))
        small.sync("customer", replace(SNAPSHOT, invoice=None))
        destination = small.destination()
        destination.prepare()
        seen = destination.observe("organization", {CUSTOMER_KEY: ""})[CUSTOMER_KEY]
        assert (seen.held["details"], seen.amount) == ("120.00", Decimal("120.00"))
