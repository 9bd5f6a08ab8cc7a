import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from graphql import GraphQLEnumType, GraphQLInterfaceType, GraphQLObjectType, build_schema, print_ast

from integrations.sandbox.server import Fault, serving
from integrations.sandbox.wave import Wave
from integrations.sandbox.wave_graphql import SCHEMA, refusal
from integrations.sandbox.wave_ledger import node_id, split_id
from integrations.sandbox.wave_webhooks import EVENTS

ROOT = Path(__file__).parents[2]
CONTRACT = ROOT.parent / "shared" / "contracts" / "wave-public.graphql"
BUSINESS = "4f9a7c10-5c1e-4d0c-9c57-2f1d5e5a0001"
MONEY = "{ value minorUnitValue currency { code exponent name plural symbol } }"
ONE_INVOICE = "query($b: ID!, $i: ID!) { business(id: $b) { invoice(id: $i) { status payments { id amount paymentDate paymentMethod } } } }"
INVOICE_LIST = """query($b: ID!, $page: Int, $size: Int, $sort: [InvoiceSort!]!, $status: InvoiceStatus, $customer: ID, $number: String,
    $after: DateTime, $before: DateTime, $start: Date, $end: Date, $due: Decimal, $currency: CurrencyCode, $source: ID) {
  business(id: $b) { invoices(page: $page, pageSize: $size, sort: $sort, status: $status, customerId: $customer, invoiceNumber: $number,
    modifiedAtAfter: $after, modifiedAtBefore: $before, invoiceDateStart: $start, invoiceDateEnd: $end, amountDue: $due,
    currency: $currency, sourceId: $source) {
    pageInfo { currentPage totalPages totalCount } edges { node { invoiceNumber payments { id } } } } } }"""


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 5, 4, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> None:
        self.now += timedelta(**span)


class Client:
    def __init__(self, wave: Wave, url: str) -> None:
        self.url = f"{url}/wave"
        self.token = wave.add_token()

    def post(self, query: str, token: str | None = None, **variables: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return requests.post(f"{self.url}/graphql/public", json={"query": query, "variables": variables}, headers=headers, timeout=5)

    def ask(self, query: str, token: str | None = None, **variables: Any) -> Any:
        response = self.post(query, token, **variables)
        assert response.status_code == 200
        return response.json()

    def form(self, path: str, **form: str) -> requests.Response:
        known = {"client_id": "wave-client", "client_secret": "wave-secret"}
        return requests.post(f"{self.url}/oauth2/{path}/", data=known | form, timeout=5)

    def tell(self, step: str, **details: Any) -> requests.Response:
        return requests.post(f"{self.url}/story/{step}", json=details, timeout=5)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wave(clock: Clock) -> Wave:
    return Wave(clock)


@pytest.fixture
def client(wave: Wave) -> Iterator[Client]:
    with serving({"wave": wave}) as url:
        yield Client(wave, url)


@pytest.fixture
def business(wave: Wave) -> str:
    return wave.add_business("Acme Studio", business=BUSINESS)


@pytest.fixture
def customer(wave: Wave, business: str) -> str:
    return wave.add_customer(business, "Bright Bikes")


def codes(answer: Any) -> list[str]:
    return [error["extensions"]["code"] for error in answer["errors"]]


def numbers(client: Client, business: str, **variables: Any) -> list[str]:
    answer = client.ask(INVOICE_LIST, b=business, **({"sort": ["CREATED_AT_ASC"]} | variables))
    return [edge["node"]["invoiceNumber"] for edge in answer["data"]["business"]["invoices"]["edges"]]


def status(wave: Wave, invoice: str) -> str:
    return wave.invoices[invoice].status


# -- schema ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not CONTRACT.exists(), reason="the vendor's schema is not at hand")
def test_schema_is_a_part_of_the_vendors() -> None:
    vendor = build_schema(CONTRACT.read_text(encoding="utf-8"))
    ours = {name: kind for name, kind in SCHEMA.type_map.items() if not name.startswith("__")}
    strange = []
    for name, kind in ours.items():
        theirs = vendor.type_map.get(name)
        if type(theirs) is not type(kind):
            strange.append(name)
        elif isinstance(kind, GraphQLEnumType) and isinstance(theirs, GraphQLEnumType):
            strange += [f"{name}.{value}" for value in kind.values if value not in theirs.values]
        elif isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            strange += [f"{name}.{field}" for field in kind.fields if signature(kind, field) != signature(theirs, field)]
    assert strange == []


def signature(kind: Any, field: str) -> str:
    return print_ast(kind.fields[field].ast_node) if field in kind.fields else "missing"


def test_introspection_needs_no_token(client: Client) -> None:
    answer = client.ask("{ __schema { queryType { name } } }", "wrong")
    assert answer == {"data": {"__schema": {"queryType": {"name": "Query"}}}}


# -- refusals ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("{ user { idd } }", "Cannot query field 'idd' on type 'User'. Did you mean 'id'?"),
        ("{ user {", "Syntax Error: Expected Name, found <EOF>."),
        ('{ business(id: "x") { id } }', "String arguments must be passed as variables."),
        ("mutation { invoiceDelete { didSucceed } }", None),
    ],
)
def test_documents_are_validated_before_the_token(client: Client, query: str, message: str | None) -> None:
    answer = client.ask(query, "wrong")
    assert "data" not in answer
    assert codes(answer) == ["GRAPHQL_VALIDATION_FAILED"]
    assert message in (None, answer["errors"][0]["message"])


def test_a_wrong_token_is_told_with_status_200(client: Client) -> None:
    answer = client.ask("{ user { id } }", "wrong")
    assert answer["data"] is None
    assert codes(answer) == ["UNAUTHENTICATED"]
    assert answer["errors"][0]["extensions"]["id"]


def test_variables_that_do_not_fit_are_bad_user_input(client: Client, business: str) -> None:
    assert codes(client.ask(ONE_INVOICE, b=business)) == ["BAD_USER_INPUT"]
    assert codes(client.ask(INVOICE_LIST, b=business, sort=["MODIFIED_AT_ASC"], after="yesterday")) == ["BAD_USER_INPUT"]
    assert codes(client.ask(INVOICE_LIST, b=business, sort=["MODIFIED_AT_ASC"], page=0)) == ["BAD_USER_INPUT"]
    for body in ("{", "[]", '{"query": 1}', '{"query": "{ user { id } }", "variables": []}'):
        assert requests.post(f"{client.url}/graphql/public", data=body, timeout=5).status_code == 400


def test_an_unknown_node_is_not_found_and_null(client: Client, wave: Wave, business: str) -> None:
    elsewhere = wave.add_invoice(wave.add_customer(wave.add_business("Other"), "C"), "X-1", total="1")
    for invoice in (elsewhere, node_id(BUSINESS, "Invoice", "1"), "nonsense"):
        answer = client.ask(ONE_INVOICE, b=business, i=invoice)
        assert answer["data"] == {"business": {"invoice": None}}
        assert codes(answer) == ["NOT_FOUND"]
        assert answer["errors"][0]["message"] == "Node could not be found."
        assert answer["errors"][0]["path"] == ["business", "invoice"]
    assert client.ask(ONE_INVOICE, b="nonsense", i="x")["data"] == {"business": None}


def test_a_fault_can_speak_graphql(client: Client, wave: Wave) -> None:
    wave.faults.append(Fault("status", status=200, body=refusal("INTERNAL_SERVER_ERROR", "Oops")))
    assert codes(client.ask("{ user { id } }")) == ["INTERNAL_SERVER_ERROR"]
    assert client.ask("{ user { defaultEmail } }") == {"data": {"user": {"defaultEmail": "owner@sandbox.example"}}}


# -- records -----------------------------------------------------------------------------------------------------------------------


def test_a_customer_is_told_whole(client: Client, wave: Wave, business: str) -> None:
    address = {"line1": "1 Main St", "city": "Oakland", "postal_code": "94607", "province": "US-CA", "country": "US"}
    details = {"first_name": "Ada", "last_name": "Bright", "display_id": "C-7", "email": "ada@bright.example", "toll_free": "800"}
    customer = wave.add_customer(business, "Bright Bikes", address=address, **details)
    query = """query($b: ID!, $c: ID!) { business(id: $b) { timezone currency { code } customer(id: $c) {
      id name firstName lastName displayId email mobile tollFree isArchived currency { code } createdAt modifiedAt business { id }
      address { addressLine1 addressLine2 city postalCode province { code name } country { code name nameWithArticle } }
      shippingDetails { name } outstandingAmount { value } overdueAmount { value } } } }"""
    answer = client.ask(query, b=business, c=customer)
    assert answer == {
        "data": {
            "business": {
                "timezone": "America/Toronto",
                "currency": {"code": "USD"},
                "customer": {
                    "id": customer,
                    "name": "Bright Bikes",
                    "firstName": "Ada",
                    "lastName": "Bright",
                    "displayId": "C-7",
                    "email": "ada@bright.example",
                    "mobile": None,
                    "tollFree": "800",
                    "isArchived": False,
                    "currency": {"code": "USD"},
                    "createdAt": "2026-05-04T12:00:00.001Z",
                    "modifiedAt": "2026-05-04T12:00:00.001Z",
                    "business": {"id": business},
                    "address": {
                        "addressLine1": "1 Main St",
                        "addressLine2": None,
                        "city": "Oakland",
                        "postalCode": "94607",
                        "province": {"code": "US-CA", "name": "California"},
                        "country": {"code": "US", "name": "United States", "nameWithArticle": "the United States"},
                    },
                    "shippingDetails": None,
                    "outstandingAmount": {"value": "0.00"},
                    "overdueAmount": {"value": "0.00"},
                },
            }
        }
    }


def test_an_invoice_is_told_whole(client: Client, wave: Wave, business: str, customer: str) -> None:
    items = [{"description": "Design", "unit_price": "1000.10", "quantity": "2"}, {"description": "Hosting", "unit_price": "20"}]
    invoice = wave.add_invoice(
        customer, "INV-1", items=items, tax_total="5", discount_total="1", invoice_date="2026-05-01", due_date="2026-05-31"
    )
    wave.approve(invoice)
    wave.send(invoice)
    payment = wave.pay(invoice, "24.2", "CASH", "2026-05-03", memo="cash desk")
    query = f"""query($b: ID!, $i: ID!) {{ business(id: $b) {{ invoice(id: $i) {{
      id invoiceNumber status title poNumber invoiceDate dueDate exchangeRate memo lastSentAt lastViewedAt viewUrl pdfUrl internalId
      customer {{ id outstandingAmount {{ value }} }} currency {{ code }} items {{ description quantity unitPrice subtotal {{ value }} }}
      subtotal {MONEY} taxTotal {{ value }} discountTotal {{ value }} total {{ value }} amountDue {{ minorUnitValue }} amountPaid {{ raw }}
      payments {{ id amount paymentDate paymentMethod state memo exchangeRate
        originInvoicePayment {{ id }} invoice {{ id payments {{ id }} }} }}
    }} }} }}"""
    answer = client.ask(query, b=business, i=invoice)
    number = split_id(invoice)[2]
    dollars = {"code": "USD", "exponent": 2, "name": "United States dollar", "plural": "United States dollars", "symbol": "$"}
    assert answer == {
        "data": {
            "business": {
                "invoice": {
                    "id": invoice,
                    "invoiceNumber": "INV-1",
                    "status": "PARTIAL",
                    "title": "Invoice",
                    "poNumber": None,
                    "invoiceDate": "2026-05-01",
                    "dueDate": "2026-05-31",
                    "exchangeRate": "1",
                    "memo": None,
                    "lastSentAt": "2026-05-04T12:00:00.004Z",
                    "lastViewedAt": None,
                    "viewUrl": f"https://wave.example/invoices/{number}",
                    "pdfUrl": f"https://wave.example/invoices/{number}.pdf",
                    "internalId": number,
                    "customer": {"id": customer, "outstandingAmount": {"value": "2,000.00"}},
                    "currency": {"code": "USD"},
                    "items": [
                        {"description": "Design", "quantity": "2", "unitPrice": "1000.10", "subtotal": {"value": "2,000.20"}},
                        {"description": "Hosting", "quantity": "1", "unitPrice": "20", "subtotal": {"value": "20.00"}},
                    ],
                    "subtotal": {"value": "2,020.20", "minorUnitValue": "202020", "currency": dollars},
                    "taxTotal": {"value": "5.00"},
                    "discountTotal": {"value": "1.00"},
                    "total": {"value": "2,024.20"},
                    "amountDue": {"minorUnitValue": "200000"},
                    "amountPaid": {"raw": 2420},
                    "payments": [
                        {
                            "id": payment,
                            "amount": "24.20",
                            "paymentDate": "2026-05-03",
                            "paymentMethod": "CASH",
                            "state": "SUCCEEDED",
                            "memo": "cash desk",
                            "exchangeRate": "1",
                            "originInvoicePayment": None,
                            "invoice": {"id": invoice, "payments": None},
                        }
                    ],
                }
            }
        }
    }


@pytest.mark.parametrize(
    ("code", "value", "minor", "exponent"), [("JPY", "1,234,568", "1234568", 0), ("EUR", "1,234,567.50", "123456750", 2)]
)
def test_money_follows_the_currencys_exponent(
    client: Client, wave: Wave, business: str, code: str, value: str, minor: str, exponent: int
) -> None:
    customer = wave.add_customer(business, "Foreign", currency=code)
    invoice = wave.add_invoice(customer, "F-1", total="1234567.5")
    query = "query($b: ID!, $i: ID!) { business(id: $b) { invoice(id: $i) { total { value minorUnitValue currency { code exponent } } } } }"
    told = client.ask(query, b=business, i=invoice)["data"]["business"]["invoice"]["total"]
    assert told == {"value": value, "minorUnitValue": minor, "currency": {"code": code, "exponent": exponent}}


def test_payments_are_null_in_lists(client: Client, wave: Wave, business: str, customer: str) -> None:
    invoice = wave.add_invoice(customer, "INV-1", total="10", status="SENT")
    payment = wave.pay(invoice, "4")
    listed = client.ask(INVOICE_LIST, b=business, sort=["CREATED_AT_ASC"])["data"]["business"]["invoices"]["edges"]
    assert listed == [{"node": {"invoiceNumber": "INV-1", "payments": None}}]
    one = client.ask(ONE_INVOICE, b=business, i=invoice)["data"]["business"]["invoice"]["payments"]
    assert one == [{"id": payment, "amount": "4.00", "paymentDate": "2026-05-04", "paymentMethod": "BANK_TRANSFER"}]
    query = "query($b: ID!, $p: ID!) { business(id: $b) { invoicePayment(id: $p) { amount invoice { id } customer { name } } } }"
    alone = client.ask(query, b=business, p=payment)["data"]["business"]["invoicePayment"]
    assert alone == {"amount": "4.00", "invoice": {"id": invoice}, "customer": {"name": "Bright Bikes"}}


def test_a_status_outside_the_schema_is_told(client: Client, wave: Wave, business: str, customer: str) -> None:
    invoice = wave.add_invoice(customer, "INV-1", total="10")
    wave.change_invoice(invoice, status="DISPUTED")
    assert client.ask(ONE_INVOICE, b=business, i=invoice) == {"data": {"business": {"invoice": {"status": "DISPUTED", "payments": []}}}}


def test_ids_are_base64_of_business_and_number(business: str, wave: Wave, customer: str) -> None:
    invoice = wave.add_invoice(customer, "INV-1", total="10")
    assert business == node_id(BUSINESS)
    assert split_id(business) == (BUSINESS, "", "")
    assert split_id(invoice) == (BUSINESS, "Invoice", wave.invoices[invoice].number)
    assert len(wave.invoices[invoice].number) == 19


# -- lists -------------------------------------------------------------------------------------------------------------------------


def test_pages_are_cut_and_capped_at_200(client: Client, wave: Wave, business: str, customer: str) -> None:
    for number in range(205):
        wave.add_invoice(customer, f"INV-{number}", total="1")

    def ask(**variables: Any) -> tuple[Any, int]:
        told = client.ask(INVOICE_LIST, b=business, sort=["CREATED_AT_ASC"], **variables)["data"]["business"]["invoices"]
        return told["pageInfo"], len(told["edges"])

    assert ask() == ({"currentPage": 1, "totalPages": 5, "totalCount": 205}, 45)
    assert ask(page=2, size=500) == ({"currentPage": 2, "totalPages": 2, "totalCount": 205}, 5)
    assert ask(page=3, size=100) == ({"currentPage": 3, "totalPages": 3, "totalCount": 205}, 5)
    assert ask(page=4, size=100) == ({"currentPage": 4, "totalPages": 3, "totalCount": 205}, 0)


def test_invoices_are_filtered_and_sorted(client: Client, wave: Wave, clock: Clock, business: str, customer: str) -> None:
    other = wave.add_customer(business, "Alpha", currency="EUR")
    wave.add_invoice(customer, "A-10", total="30", invoice_date="2026-01-01", status="SENT")
    clock.forward(hours=1)
    wave.add_invoice(other, "A-2", total="10", invoice_date="2026-02-01", due_date="2026-02-02", status="SENT")
    clock.forward(hours=1)
    wave.add_invoice(customer, "B-1", total="20", invoice_date="2026-03-01")
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"sort": ["CREATED_AT_DESC"]}, ["B-1", "A-2", "A-10"]),
        ({"sort": ["AMOUNT_DUE_DESC"]}, ["A-10", "B-1", "A-2"]),
        ({"sort": ["TOTAL_ASC"]}, ["A-2", "B-1", "A-10"]),
        ({"sort": ["DUE_AT_ASC"]}, ["A-10", "A-2", "B-1"]),
        ({"sort": ["CUSTOMER_NAME_ASC", "AMOUNT_DUE_ASC"]}, ["A-2", "B-1", "A-10"]),
        ({"sort": ["STATUS_DESC", "INVOICE_NUMBER_DESC"]}, ["A-2", "A-10", "B-1"]),
        ({"status": "SENT"}, ["A-10", "A-2"]),
        ({"customer": customer}, ["A-10", "B-1"]),
        ({"number": "A-"}, ["A-10", "A-2"]),
        ({"due": "10.00"}, ["A-2"]),
        ({"currency": "EUR"}, ["A-2"]),
        ({"source": "UmVjdXJyaW5n"}, []),
        ({"start": "2026-02-01", "end": "2026-02-28"}, ["A-2"]),
        ({"after": "2026-05-04T13:00:00.000Z"}, ["B-1"]),
        ({"after": "2026-05-04T12:59:59.999Z"}, ["A-2", "B-1"]),
        ({"after": "2026-05-04T12:59:59.999Z", "before": "2026-05-04T13:30:00Z"}, ["A-2"]),
    ]
    assert [(asked, numbers(client, business, **asked)) for asked, _ in cases] == cases


def test_customers_are_filtered_and_sorted(client: Client, wave: Wave, clock: Clock, business: str) -> None:
    beta = wave.add_customer(business, "beta", email="b@x.example")
    clock.forward(hours=1)
    wave.add_customer(business, "Alpha", email="a@x.example")
    query = """query($b: ID!, $email: String, $after: DateTime, $sort: [CustomerSort!]!) { business(id: $b) {
      customers(email: $email, modifiedAtAfter: $after, sort: $sort) { edges { node { name } } } } }"""

    def names(**variables: Any) -> list[str]:
        edges = client.ask(query, b=business, **variables)["data"]["business"]["customers"]["edges"]
        return [edge["node"]["name"] for edge in edges]

    assert names(sort=["NAME_ASC"]) == ["Alpha", "beta"]
    assert names(sort=["MODIFIED_AT_DESC"]) == ["Alpha", "beta"]
    assert names(sort=["NAME_ASC"], email="b@x.example") == ["beta"]
    assert names(sort=["NAME_ASC"], after="2026-05-04T12:30:00Z") == ["Alpha"]
    clock.forward(hours=1)
    wave.change_customer(beta, phone="1")
    assert names(sort=["MODIFIED_AT_DESC"]) == ["beta", "Alpha"]


# -- the story ---------------------------------------------------------------------------------------------------------------------


def test_an_invoice_walks_through_its_states_and_every_step_moves_its_time(wave: Wave, customer: str) -> None:
    invoice = wave.add_invoice(customer, "INV-1", total="100")
    seen, times = [status(wave, invoice)], [wave.invoices[invoice].modified_at]
    payments: list[str] = []
    steps: list[Callable[[], object]] = [
        lambda: wave.view(invoice),
        lambda: wave.approve(invoice),
        lambda: wave.send(invoice),
        lambda: wave.view(invoice),
        lambda: wave.mark_overdue(invoice),
        lambda: payments.append(wave.pay(invoice, "40")),
        lambda: wave.view(invoice),
        lambda: wave.send(invoice),
        lambda: payments.append(wave.pay(invoice, "60")),
        lambda: payments.append(wave.pay(invoice, "1")),
        lambda: wave.remove_payment(payments[2]),
        lambda: wave.change_invoice(invoice, total="120"),
        lambda: wave.remove_payment(payments[1]),
        lambda: wave.remove_payment(payments[0]),
    ]
    for step in steps:
        step()
        seen.append(status(wave, invoice))
        times.append(wave.invoices[invoice].modified_at)
    walked = "DRAFT DRAFT SAVED SENT VIEWED OVERDUE PARTIAL PARTIAL PARTIAL PAID OVERPAID PAID PARTIAL PARTIAL VIEWED"
    assert seen == walked.split()
    assert times == sorted(set(times))


def test_balances_leave_drafts_and_other_currencies_out(wave: Wave, clock: Clock, customer: str) -> None:
    wave.add_invoice(customer, "D", total="1000")
    wave.add_invoice(customer, "E", total="500", currency="EUR", status="SENT")
    late = wave.add_invoice(customer, "L", total="100", due_date="2026-05-03", status="SENT")
    wave.add_invoice(customer, "T", total="20", due_date="2026-05-04", status="SENT")
    over = wave.add_invoice(customer, "O", total="5", status="SENT")
    wave.pay(over, "50")
    wave.pay(late, "30")
    assert (str(wave.outstanding(customer)), str(wave.overdue(customer))) == ("90", "70")
    clock.now = datetime(2026, 5, 5, 3, tzinfo=UTC)  # still the 4th in Toronto
    assert str(wave.overdue(customer)) == "70"
    clock.forward(hours=2)
    assert str(wave.overdue(customer)) == "90"


def test_impossible_steps_are_refused(wave: Wave, customer: str) -> None:
    draft = wave.add_invoice(customer, "INV-1", total="1")
    before = wave.state()
    for step in (wave.send, wave.mark_overdue, partial(wave.pay, amount="1")):
        with pytest.raises(ValueError, match="has to be approved first"):
            step(draft)
    with pytest.raises(ValueError, match="cannot be deleted"):
        wave.delete_customer(customer)
    with pytest.raises(TypeError, match="Customer has no shoe_size"):
        wave.change_customer(customer, shoe_size="44")
    with pytest.raises(KeyError):
        wave.change_invoice(draft, customer="nobody")
    assert wave.state() == before


def test_deleted_records_just_vanish(client: Client, wave: Wave, business: str, customer: str) -> None:
    invoice = wave.add_invoice(customer, "INV-1", total="1")
    wave.delete_invoice(invoice)
    wave.delete_customer(customer)
    assert numbers(client, business) == []
    assert codes(client.ask(ONE_INVOICE, b=business, i=invoice)) == ["NOT_FOUND"]
    assert (wave.state()["customers"], wave.state()["invoices"]) == ([], [])


def test_another_process_can_play_the_story(client: Client, wave: Wave) -> None:
    business = client.tell("add_business", name="Acme", timezone="Europe/Berlin", currency="EUR").json()["id"]
    customer = client.tell("add_customer", business=business, name="Bright", address={"city": "Bonn"}).json()["id"]
    invoice = client.tell("add_invoice", customer=customer, number="INV-1", total="80.50", status="SENT", due_date="2026-06-01").json()[
        "id"
    ]
    payment = client.tell("pay", invoice=invoice, amount="80.50", method="CASH", date="2026-05-02").json()["id"]
    assert client.tell("view", invoice=invoice).json() == {}
    told = json.loads(client.tell("event", event_type="invoice.paid", invoice=invoice).json()["body"])
    assert (told["event_type"], told["data"]["paid_date"]) == ("invoice.paid", "2026-05-02")
    state = requests.get(client.url.replace("/wave", "/control/wave/state"), timeout=5).json()
    assert state == wave.state()
    row = state["invoices"][0]
    assert (row["status"], row["amount_due"], row["payments"][0]["id"]) == ("PAID", "0.00", payment)


def test_a_wrong_step_is_told_and_changes_nothing(client: Client, wave: Wave, business: str) -> None:
    before = wave.state()
    assert client.tell("handle").status_code == 404
    assert client.tell("state").status_code == 404
    assert client.tell("add_customer", business=business).status_code == 400
    assert client.tell("add_customer", business="nobody", name="X").json() == {"error": "KeyError: 'nobody'"}
    assert client.tell("configure", speed=1).status_code == 400
    assert wave.state() == before


def test_the_page_shows_the_books_escaped(client: Client, wave: Wave, business: str) -> None:
    customer = wave.add_customer(business, "<b>Bright</b>")
    invoice = wave.add_invoice(customer, "INV-1", total="1500", status="SENT")
    wave.pay(invoice, "250", "CASH", "2026-05-02")
    response = requests.get(f"{client.url}/", timeout=5)
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<td>&lt;b&gt;Bright&lt;/b&gt;</td>" in response.text
    assert '<td>PARTIAL</td><td>2026-06-03</td><td>2026-05-02 250.00 CASH</td><td class="sum">1,500.00 USD</td>' in response.text
    assert "<script" not in response.text


# -- OAuth -------------------------------------------------------------------------------------------------------------------------


def test_a_code_becomes_a_grant_once(client: Client, wave: Wave, business: str) -> None:
    wave.add_business("Other")
    wave.consent_at_once = True
    back = "https://app.example/back"
    asked = {"client_id": "wave-client", "response_type": "code", "scope": "invoice:read", "redirect_uri": back, "state": "s1"}
    answer = requests.get(f"{client.url}/oauth2/authorize/", asked | {"businessId": business}, allow_redirects=False, timeout=5)
    location, _, rest = answer.headers["Location"].partition("?code=")
    code, _, state = rest.partition("&state=")
    assert (answer.status_code, location, state) == (302, back, "s1")
    told = client.form("token", grant_type="authorization_code", code=code, redirect_uri=back).json()
    assert told == {
        "access_token": told["access_token"],
        "refresh_token": told["refresh_token"],
        "token_type": "Bearer",
        "expires_in": 7200,
        "scope": "invoice:read",
    }
    query = "{ business { id } businesses { edges { node { name } } } }"
    seen = client.ask(query, told["access_token"])["data"]
    assert seen == {"business": {"id": business}, "businesses": {"edges": [{"node": {"name": "Acme Studio"}}]}}
    assert len(client.ask(query)["data"]["businesses"]["edges"]) == 2
    again = client.form("token", grant_type="authorization_code", code=code, redirect_uri=back)
    assert (again.status_code, again.json()) == (400, {"error": "invalid_grant"})


def test_bad_token_requests_are_refused(client: Client, wave: Wave, clock: Clock) -> None:
    late, strayed = wave.add_code(), wave.add_code(redirect_uri="https://app.example/back")
    assert client.form("token", grant_type="authorization_code", code=strayed, redirect_uri="https://evil.example").status_code == 400
    clock.forward(minutes=10)
    assert client.form("token", grant_type="authorization_code", code=late).json() == {"error": "invalid_grant"}
    assert client.form("token", grant_type="password").json() == {"error": "unsupported_grant_type"}
    assert client.form("token", grant_type="refresh_token", refresh_token="").json() == {"error": "invalid_grant"}
    wrong = client.form("token", grant_type="refresh_token", client_secret="wrong")
    assert (wrong.status_code, wrong.json()) == (401, {"error": "invalid_client"})
    known = {"client_id": "wave-client", "client_secret": "wave-secret", "grant_type": "refresh_token"}
    assert requests.post(f"{client.url}/oauth2/token/", json=known, timeout=5).status_code == 401
    assert requests.post(f"{client.url}/oauth2/token", data=known, timeout=5).status_code == 404
    nowhere = {"client_id": "wave-client", "response_type": "code", "redirect_uri": "https://app.example/", "state": "s"}
    denied = requests.get(f"{client.url}/oauth2/authorize/", nowhere, allow_redirects=False, timeout=5)
    assert denied.headers["Location"] == "https://app.example/?error=invalid_scope&state=s"


def works(client: Client, token: str) -> bool:
    return "errors" not in client.ask("{ user { id } }", token)


def test_a_refresh_kills_the_old_access_token(client: Client, wave: Wave) -> None:
    first = wave.add_grant()
    second = client.form("token", grant_type="refresh_token", refresh_token=first["refresh_token"]).json()
    assert sorted(second) == ["access_token", "expires_in", "scope", "token_type"]
    assert (works(client, first["access_token"]), works(client, second["access_token"])) == (False, True)
    assert client.form("token", grant_type="refresh_token", refresh_token=first["refresh_token"]).status_code == 200


def test_rotated_refresh_tokens_are_good_once(client: Client, wave: Wave) -> None:
    wave.configure(rotate_refresh=True, expires_in=60)
    first = wave.add_grant()
    second = client.form("token", grant_type="refresh_token", refresh_token=first["refresh_token"]).json()
    assert second["expires_in"] == 60
    assert second["refresh_token"] != first["refresh_token"]
    assert client.form("token", grant_type="refresh_token", refresh_token=first["refresh_token"]).status_code == 400
    assert client.form("token", grant_type="refresh_token", refresh_token=second["refresh_token"]).status_code == 200


def test_a_lapsed_plan_refuses_the_refresh(client: Client, wave: Wave) -> None:
    grant = wave.add_grant()
    wave.configure(refresh_refused=403)
    assert client.form("token", grant_type="refresh_token", refresh_token=grant["refresh_token"]).status_code == 403
    assert works(client, grant["access_token"])


def test_tokens_run_out_and_can_be_revoked(client: Client, wave: Wave, clock: Clock) -> None:
    timed, expired, revoked = (wave.add_grant()["access_token"] for _ in range(3))
    wave.expire(expired)
    assert client.form("token-revoke", token=revoked).status_code == 200
    assert [works(client, token) for token in (timed, expired, revoked, client.token)] == [True, False, False, True]
    clock.forward(seconds=7200)
    assert [works(client, token) for token in (timed, client.token)] == [False, True]
    wave.expire(client.token)
    assert not works(client, client.token)


# -- limits ------------------------------------------------------------------------------------------------------------------------


def test_too_many_calls_in_a_minute_are_told_to_wait(client: Client, wave: Wave, clock: Clock) -> None:
    wave.configure(max_per_minute=2)
    answers = []
    for _ in range(3):
        answers.append(client.post("{ user { id } }"))
        clock.forward(seconds=10)
    assert [(answer.status_code, answer.headers.get("Retry-After")) for answer in answers] == [(200, None), (200, None), (429, "40")]
    assert client.post("{ user { id } }", wave.add_token()).status_code == 200
    clock.forward(seconds=30)
    assert client.post("{ user { id } }").status_code == 200


def test_too_many_calls_at_once_are_told_to_wait(client: Client, wave: Wave) -> None:
    wave.configure(max_concurrent=1, latency=0.5)
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(client.post("{ user { id } }").status_code)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 429, 429]
    assert client.post("{ user { id } }").status_code == 200


# -- webhooks ----------------------------------------------------------------------------------------------------------------------


def test_events_tell_numbers_and_plain_amounts(wave: Wave, business: str, customer: str) -> None:
    invoice = wave.add_invoice(customer, "INV-1", total="1108.98", invoice_date="2026-04-01", due_date="2026-04-20", status="SENT")
    wave.pay(invoice, "8.98", "CASH", "2026-04-29")
    ids = {"invoice_id": split_id(invoice)[2], "customer_id": split_id(customer)[2]}
    paid = json.loads(wave.event("invoice.partially_paid", invoice=invoice, event_id="e-1"))
    assert paid == {
        "event_id": "e-1",
        "event_type": "invoice.partially_paid",
        "business_id": BUSINESS,
        "data": ids | {"currency_code": "USD", "amount_paid": "8.98", "remaining_balance": "1100.00", "paid_date": "2026-04-29"},
    }
    overdue = json.loads(wave.event("invoice.overdue", invoice=invoice, note="extra"))
    dates = {"due_date": "2026-04-20", "issue_date": "2026-04-01"}
    assert overdue["data"] == ids | dates | {"currency_code": "USD", "invoice_balance": "1100.00", "note": "extra"}


def test_every_event_can_be_told_with_an_id_of_its_own(wave: Wave, business: str, customer: str) -> None:
    invoice = wave.add_invoice(customer, "INV-1", total="10", status="SENT")
    payment = wave.pay(invoice, "10")
    subjects: dict[str, dict[str, str]] = {"customer": {"customer": customer}, "payment": {"payment": payment}, "estimate": {}}
    bodies = [json.loads(wave.event(name, **subjects.get(name.split(".")[0], {"invoice": invoice}))) for name in EVENTS]
    assert [body["event_type"] for body in bodies] == list(EVENTS)
    assert len({body["event_id"] for body in bodies}) == len(EVENTS)
    about = {body["event_type"]: sorted(body["data"]) for body in bodies}
    assert about["customer.created"] == ["customer_id"]
    assert about["estimate.accepted"] == ["estimate_id"]
    assert about["invoice.viewed"] == ["currency_code", "customer_id", "invoice_id"]
    assert {"invoice_id", "payment_id"} < set(about["payment.created"])


def test_an_event_about_a_deleted_invoice_still_names_it(wave: Wave, customer: str) -> None:
    invoice = wave.add_invoice(customer, "INV-1", total="10")
    wave.delete_invoice(invoice)
    told = json.loads(wave.event("invoice.updated", invoice=invoice, business_id="42"))
    assert (told["business_id"], told["data"]) == ("42", {"invoice_id": split_id(invoice)[2]})


def test_deliveries_are_signed_over_time_and_raw_body(wave: Wave, clock: Clock, business: str) -> None:
    body = wave.event("invoice.sent", invoice=node_id(BUSINESS, "Invoice", "77"))
    received: list[tuple[str, str, bytes]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, self.headers["x-wave-signature"], raw))
            self.send_response(503)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        assert wave.deliver(url, body, "sécret").status_code == 503
        assert wave.deliver(url, body, "sécret", clock.now - timedelta(seconds=400)).status_code == 503
    finally:
        server.shutdown()
        server.server_close()
    stamps = [int(clock.now.timestamp()), int(clock.now.timestamp()) - 400]
    macs = [hmac.new("sécret".encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest() for stamp in stamps]
    assert received == [("/hook", f"t={stamp},v1={mac}", body) for stamp, mac in zip(stamps, macs, strict=True)]
