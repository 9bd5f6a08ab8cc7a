"""What the tests of the Jira destination share: records, a route, and a session that checks each body against the contract."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from openapi_schema_validator import OAS30WriteValidator
from referencing import Registry
from referencing.jsonschema import DRAFT4

from integrations.core.documents import Bound, Document, Written, changed_fields, hashes
from integrations.core.ports import Account, FieldRule, Plan, StatusRule, Trace
from integrations.core.records import Address, Business, Customer, Invoice, Money, Payment, Snapshot, record_key
from integrations.destinations.jira.adapter import ACCESS, SYSTEM, JiraDestination
from integrations.http import ApiClient
from integrations.sandbox.jira import Jira
from integrations.sandbox.jira_site import API_TOKEN
from integrations.sandbox.server import serving

CONTRACT = Path(__file__).resolve().parents[2] / "shared" / "contracts" / "jira-cloud-v3.json"
# The excerpt lacks this path; its body is the Comment of the POST beside it.
_SAME_BODY = {"/rest/api/3/issue/{issueIdOrKey}/comment/{id}": ("/rest/api/3/issue/{issueIdOrKey}/comment", "post")}
NOW = datetime(2026, 11, 5, 9, 30, tzinfo=UTC)
BUSINESS = Business("b1", "Acme Books", "Europe/Berlin", "USD")
TRACE = Trace(NOW, "job-1")
CUSTOMER = Customer(
    record_key("b1", "customer", "7"), "Blue Ltd", NOW, "Ann", "Lee", email="ann@example.com", currency="USD", address=Address(city="Bonn")
)
PAYMENT = Payment(record_key("b1", "payment", "31"), Money(Decimal("40.00"), "USD"), date(2026, 11, 3), "BANK_TRANSFER", created_at=NOW)
INVOICE = Invoice(
    key=record_key("b1", "invoice", "12"),
    number="INV-12",
    status="SENT",
    customer=CUSTOMER,
    total=Money(Decimal("100.50"), "USD"),
    due=Money(Decimal("60.50"), "USD"),
    paid=Money(Decimal("40.00"), "USD"),
    issued_on=date(2026, 11, 1),
    due_on=date(2026, 12, 1),
    modified_at=NOW,
    created_at=NOW,
    url="https://wave.example/invoices/12",
    payments=(PAYMENT,),
)
ACCOUNT = Account("jira", "jira", "api_token", {"site": "acme", "email": "ops@example.com"})


def snapshot(invoice: Invoice | None = INVOICE, customer: Customer | None = None) -> Snapshot:
    """Return a read of the business."""
    return Snapshot(BUSINESS, NOW, date(2026, 11, 5), customer, () if customer else None, invoice)


def plan(kinds: Sequence[str] = ("customer", "invoice", "payment"), statuses: Mapping[str, str] = SYSTEM.statuses, **options: Any) -> Plan:
    """Return a new route's plan."""
    given = {setting.name: setting.default for setting in SYSTEM.options} | {"project": "BILL"} | options
    rules = tuple(FieldRule(row.kind, row.target, row.template) for row in SYSTEM.defaults)
    return Plan("r", tuple(kinds), given, rules, tuple(StatusRule(state, status) for state, status in statuses.items()))


@dataclass
class Memory:
    """A shape that survives the adapters of one test; values are JSON, as in the database."""

    values: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        return self.values.get(name)

    def ever(self, name: str) -> Any:
        return self.values.get(name)

    def put(self, name: str, value: Any) -> None:
        self.values[name] = json.loads(json.dumps(value))


class Token:
    """Credentials that cannot be renewed."""

    def __init__(self, token: str = API_TOKEN) -> None:
        self.token = token

    def headers(self) -> dict[str, str]:
        return ACCESS.headers(ACCOUNT, {"api_token": self.token})

    def renew(self, stale: dict[str, str]) -> bool:
        return False


class CheckedSession(requests.Session):
    """A session that refuses to send a body which Atlassian's own specification does not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.contract = json.loads(CONTRACT.read_text()) if CONTRACT.exists() else None

    def request(self, method: Any, url: Any, *args: Any, **more: Any) -> requests.Response:
        if self.contract is not None and more.get("json") is not None:
            check_body(self.contract, str(method), str(url), more["json"])
        return super().request(method, url, *args, **more)


def check_body(contract: Mapping[str, Any], method: str, url: str, body: Any) -> None:
    """Raise when a body does not fit the operation's schema, or the operation is not in the contract."""
    path = "/rest/api/3" + urlsplit(url).path.partition("/rest/api/3")[2]
    known = [*contract["paths"], *_SAME_BODY]
    # Fixed paths before those with a parameter.
    template = next(name for name in sorted(known, key=lambda name: name.count("{")) if _matches(name, path))
    template, verb = _SAME_BODY.get(template, (template, method.lower()))
    schema = contract["paths"][template][verb]["requestBody"]["content"]["application/json"]["schema"]
    registry: Registry[Any] = Registry().with_resource("contract", DRAFT4.create_resource(contract))
    absolute = json.loads(json.dumps(schema).replace('"#/', '"contract#/'))
    OAS30WriteValidator(absolute, registry=registry).validate(body)


def _matches(template: str, path: str) -> bool:
    return re.fullmatch(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template)), path) is not None


class World:
    """A sandbox site, and a route that remembers bindings like the pipeline does."""

    def __init__(self, site: Jira, url: str) -> None:
        self.site = site
        self.shape = Memory()
        self.session = CheckedSession()
        self.url = f"{url}/jira"
        self.bound: dict[tuple[str, str], Bound] = {}
        self.hashes: dict[tuple[str, str], dict[str, str]] = {}

    def route(self, given: Plan | None = None, *, token: str = API_TOKEN) -> JiraDestination:
        """Return the adapter for a new run, ready to map."""
        return JiraDestination(ApiClient(self.url, Token(token), self.session), given or plan(), self.shape)

    def bring(self, given: Plan | None = None, invoice: Invoice | None = INVOICE, customer: Customer | None = None) -> list[Written]:
        """Write what differs, as a job does; return what was written."""
        adapter = self.route(given)
        adapter.prepare()
        documents = adapter.documents("customer" if customer else "invoice", snapshot(invoice, customer), TRACE)
        return [written for document in documents if (written := self.write(adapter, document))]

    def write(self, adapter: JiraDestination, document: Document) -> Written | None:
        """Write one document unless nothing changed."""
        name = (document.kind, document.key)
        wanted = hashes(document.fields)
        changed = changed_fields(wanted, self.hashes.get(name, {}))
        if not changed:
            return None
        written = adapter.write(document, replace(self.known(document), changed=changed))
        if not written.withheld:
            own = self.bound.get(name, Bound()).facts
            self.bound[name] = Bound(written.remote_id, facts={**own, **written.facts})
            self.hashes[name] = {field: digest for field, digest in wanted.items() if field not in written.dropped}
        return written

    def known(self, document: Document) -> Bound:
        """Return what is remembered of a document's remote object, its parent's facts below its own."""
        own = self.bound.get((document.kind, document.key), Bound())
        parent = self.bound.get((document.parent.kind, document.parent.key), Bound()) if document.parent else Bound()
        return Bound(own.remote_id, parent.remote_id, {**parent.facts, **own.facts})

    def calls(self) -> list[str]:
        """Return and forget the calls so far, as "VERB /path" below /rest/api/3, ids as N."""
        found = [f"{call.method} {re.sub(r'[0-9]{5,}', 'N', call.path.removeprefix('/rest/api/3'))}" for call in self.site.calls]
        self.site.calls.clear()
        return found

    def issues(self) -> dict[str, Any]:
        """Return the issues of the site by key."""
        issues: dict[str, Any] = self.site.state()["issues"]
        return issues


@contextmanager
def world(site: Jira | None = None) -> Iterator[World]:
    """Serve a site whose custom fields exist already, as after provisioning."""
    site = site or Jira()
    for name in ("Wave invoice id", "Wave invoice number", "Wave customer", "Wave currency", "Wave synced at", "Wave job id"):
        site.add_field(name, "textfield")
    for name in ("Wave total", "Wave paid", "Wave due"):
        site.add_field(name, "float")
    with serving({"jira": site}) as url:
        yield World(site, url)
