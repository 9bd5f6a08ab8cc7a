"""Turn records into the documents of a Jira project: issues, their status, worklogs or comments."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from integrations.core import context
from integrations.core.documents import Document, Link, Value
from integrations.core.errors import Unmappable
from integrations.core.mapping import fill
from integrations.core.ports import FieldDefault, FieldRule, Plan, StatusRule, Trace
from integrations.core.records import Invoice, Payment, Snapshot, key_digest
from integrations.core.zones import zone_of
from integrations.destinations.jira import adf

COMMON_LABEL = "wave"
DELETED_LABEL = "wave-deleted"
PAYMENT_PROPERTY = "wave.payment"
PAYMENT_SECONDS = 60  # the least that Jira takes: a payment is no effort
LONGEST_TEXT = 255
CUSTOM = "customfield_"
# System fields and how their values are written; all other targets are custom fields.
SYSTEM_FIELDS = {"summary": "summary", "description": "textarea", "duedate": "date", "labels": "labels", "priority": "name"}


@dataclass(frozen=True, slots=True)
class IssueKind:
    """A kind of record that becomes an issue: how the issue is found again and which option names its type."""

    kind: str
    prefix: str
    property: str
    option: str

    def label(self, key: str) -> str:
        """Return the label that only this record's issue carries."""
        return f"{self.prefix}{key_digest(key)}"


INVOICE_ISSUE = IssueKind("issue", "wave-inv-", "wave.invoice", "invoice_issue_type")
CUSTOMER_ISSUE = IssueKind("customer_issue", "wave-cus-", "wave.customer", "customer_issue_type")
ISSUE_KINDS = {issue.kind: issue for issue in (INVOICE_ISSUE, CUSTOMER_ISSUE)}

_INVOICE_TEXT = """\
Wave invoice {{ invoice.number }}{% if invoice.title %}: {{ invoice.title }}{% endif %}
Customer: {{ customer.name }}
{% if customer.contact_name %}Contact: {{ customer.contact_name }}{% endif %}
{% if customer.email %}E-mail: {{ customer.email }}{% endif %}
{% if customer.phone %}Phone: {{ customer.phone }}{% endif %}
{% if invoice.po_number %}P.O. number: {{ invoice.po_number }}{% endif %}
{% if invoice.issued_on %}Issued: {{ invoice.issued_on }}{% endif %}
{% if invoice.due_on %}Due: {{ invoice.due_on }}{% endif %}
{% if invoice.memo %}{{ invoice.memo }}{% endif %}"""
_CUSTOMER_TEXT = """\
{% if customer.contact_name %}Contact: {{ customer.contact_name }}{% endif %}
{% if customer.email %}E-mail: {{ customer.email }}{% endif %}
{% if customer.phone %}Phone: {{ customer.phone }}{% endif %}
{% if customer.website %}Website: {{ customer.website }}{% endif %}
{% if customer.address %}Address: {{ customer.address }}{% endif %}
{% if customer.outstanding %}Outstanding: {{ customer.outstanding }} {{ customer.currency }}{% endif %}
{% if customer.overdue %}Overdue: {{ customer.overdue }} {{ customer.currency }}{% endif %}
{% if customer.open_invoices %}{{ customer.open_invoices }}{% endif %}"""
_PAYMENT_TEXT = (
    "Payment {{ payment.amount }} {{ payment.currency }}"
    "{% if payment.method %} by {{ payment.method }}{% endif %}{% if payment.paid_on %} on {{ payment.paid_on }}{% endif %}"
)
# No default names the invoice's state: an invoice that was only viewed does not change the issue.
DEFAULTS = (
    FieldDefault("invoice", "summary", "{{ invoice.number }} {{ customer.name }}: {{ invoice.total }} {{ invoice.currency }}"),
    FieldDefault("invoice", "description", _INVOICE_TEXT),
    FieldDefault("invoice", "duedate", "{{ invoice.due_on }}"),
    FieldDefault("invoice", "Wave invoice id", "{{ invoice.id }}"),
    FieldDefault("invoice", "Wave invoice number", "{{ invoice.number }}"),
    FieldDefault("invoice", "Wave customer", "{{ customer.name }}"),
    FieldDefault("invoice", "Wave total", "{{ invoice.total }}"),
    FieldDefault("invoice", "Wave paid", "{{ invoice.paid }}"),
    FieldDefault("invoice", "Wave due", "{{ invoice.due }}"),
    FieldDefault("invoice", "Wave currency", "{{ invoice.currency }}"),
    FieldDefault("invoice", "Wave synced at", "{{ trace.synced_at }}"),
    FieldDefault("invoice", "Wave job id", "{{ trace.job_id }}"),
    FieldDefault("customer", "summary", "{{ customer.name }}"),
    FieldDefault("customer", "description", _CUSTOMER_TEXT),
    FieldDefault("customer", "Wave customer id", "{{ customer.id }}"),
    FieldDefault("customer", "Wave synced at", "{{ trace.synced_at }}"),
    FieldDefault("customer", "Wave job id", "{{ trace.job_id }}"),
    FieldDefault("payment", "comment", _PAYMENT_TEXT),
)


@dataclass(frozen=True, slots=True)
class RemoteField:
    """A field of the site; `type` is one of ours: text textarea number date datetime labels option."""

    id: str
    type: str


def custom_fields(listed: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return what is remembered of GET /field: the custom fields with id, name and type, the first created first."""
    rows = [
        {"id": str(entry["id"]), "name": str(entry.get("name", "")), "type": field_type(entry.get("schema") or {})}
        for entry in listed
        if str(entry.get("id", "")).startswith(CUSTOM)
    ]
    return sorted(rows, key=lambda row: (len(row["id"]), row["id"]))


def field_type(schema: Mapping[str, Any]) -> str:
    """Return our word for a field's schema; everything unknown is taken for text."""
    if str(schema.get("custom", "")).endswith(":textarea"):
        return "textarea"
    known = {"number": "number", "date": "date", "datetime": "datetime", "option": "option"}
    if schema.get("type") == "array" and schema.get("items") == "string":
        return "labels"
    return known.get(str(schema.get("type")), "text")


class Fields:
    """Finds the field that a target means. Names are not unique in Jira: the first created one counts."""

    def __init__(self, rows: Sequence[Mapping[str, str]], rules: Iterable[FieldRule] = ()) -> None:
        self._types = {row["id"]: row["type"] for row in rows}
        self._ids = {_folded(row["name"]): row["id"] for row in reversed(rows)}
        self._remotes = {rule.target: rule.remote for rule in rules if rule.remote}

    def find(self, target: str) -> RemoteField | None:
        """Return the field of a target: a system field, customfield_NNN or a name; None when the site has none."""
        if target in SYSTEM_FIELDS:
            return RemoteField(target, SYSTEM_FIELDS[target])
        wanted = target if target.startswith(CUSTOM) else self._remotes.get(target) or self._ids.get(_folded(target), "")
        return RemoteField(wanted, self._types[wanted]) if wanted in self._types else None

    def known(self, rules: Iterable[FieldRule]) -> list[FieldRule]:
        """Return the rules whose field exists."""
        return [rule for rule in rules if self.find(rule.target)]

    def converted(self, kind: str, values: Mapping[str, Value]) -> dict[str, Value]:
        """Return the values in the form of their fields; amounts stay Decimal. Raises Unmappable naming the row."""
        found = {}
        for target, value in values.items():
            remote = self.find(target)
            if remote is not None:
                found[target] = convert(f"{kind} {target}", remote.type, value)
        return found

    def on_wire(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """Return converted values as JSON by field id. What Jira never takes as null is left out then; labels go apart."""
        found = {}
        for target, value in values.items():
            remote = self.find(target)
            if remote is None or target == "labels" or (value is None and target in ("summary", "priority")):
                continue
            found[remote.id] = float(value) if isinstance(value, Decimal) else value
        return found


def _folded(name: str) -> str:
    return " ".join(name.split()).casefold()


def convert(row: str, kind: str, value: Value) -> Value:
    """Return a template's value in the form of a field's type, None for an empty one; raise Unmappable."""
    if value is None or value == "":
        return None
    if kind == "number":
        return _number(row, value)
    if kind in ("date", "datetime"):
        return _moment(row, kind, value)
    words = _text(value)
    if kind == "textarea":
        return adf.document(adf.paragraphs(words))
    if kind == "labels":
        return sorted({word[:LONGEST_TEXT] for word in adf.clean(words).split()})
    shown = adf.line(words, LONGEST_TEXT)
    if not shown:
        return None
    return {"option": {"value": shown}, "name": {"name": shown}}.get(kind, shown)


def _text(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _number(row: str, value: Value) -> Decimal:
    """Return an exact number; Jira keeps doubles, so one that a double would change is refused."""
    try:
        amount = Decimal(str(value).strip())
        exact = amount.is_finite() and Decimal(repr(float(amount))) == amount
    except (InvalidOperation, OverflowError):
        raise Unmappable(f"{row}: the field takes a number, the template gives none", code="no_number", words=str(value)) from None
    if not exact:
        raise Unmappable(f"{row}: Jira cannot keep this number exactly", code="inexact", words=str(value))
    return amount


def _moment(row: str, kind: str, value: Value) -> str:
    try:
        if kind == "date":
            return date.fromisoformat(str(value).strip()[:10]).isoformat()
        moment = datetime.fromisoformat(str(value).strip())
    except ValueError:
        raise Unmappable(f"{row}: the field takes a date, the template gives none", code="no_date", words=str(value)) from None
    return stamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def stamp(moment: datetime) -> str:
    """Return an aware time as Jira's worklogs and date-time fields take it: 2021-01-17T12:34:00.000+0000."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000%z")


def invoice_issue(plan: Plan, fields: Fields, snapshot: Snapshot, invoice: Invoice, trace: Trace) -> Document:
    """Return the issue of an invoice."""
    values, sent = _filled(plan, "invoice", fields, context.of_invoice(snapshot, trace))
    for found in (values, sent):
        if "description" in found:
            found["description"] = _with_amounts(found["description"], invoice)
    return _issue(INVOICE_ISSUE, invoice.key, values, sent, otherwise=f"Wave invoice {invoice.number or invoice.id}", of=invoice)


def customer_issue(plan: Plan, fields: Fields, snapshot: Snapshot, trace: Trace) -> Document | None:
    """Return the issue of a customer, None when the snapshot has none."""
    customer = snapshot.customer
    if customer is None:
        return None
    values, sent = _filled(plan, "customer", fields, context.of_customer(snapshot, trace))
    return _issue(CUSTOMER_ISSUE, customer.key, values, sent, otherwise=f"Wave customer {customer.number}", of=customer)


def _filled(plan: Plan, kind: str, fields: Fields, names: Mapping[str, Any]) -> tuple[dict[str, Value], dict[str, Value]]:
    values, sent = fill(fields.known(plan.rules(kind)), names)
    return fields.converted(kind, values), fields.converted(kind, sent)


def _issue(kind: IssueKind, key: str, values: dict[str, Value], sent: dict[str, Value], *, otherwise: str, of: Any) -> Document:
    summary = values.get("summary") or sent.pop("summary", None) or adf.line(otherwise)
    labels = [COMMON_LABEL, kind.label(key), *(values.get("labels") or []), *(sent.pop("labels", None) or [])]
    values = {**values, "summary": summary, "labels": list(dict.fromkeys(labels))}
    return Document(kind.kind, key, values, sent, upsert=False, modified_at=of.modified_at, created_at=of.created_at)


def _with_amounts(description: Any, invoice: Invoice) -> adf.Node:
    amounts = adf.table([("Total", str(invoice.total)), ("Paid", str(invoice.paid)), ("Due", str(invoice.due))])
    links = [adf.paragraph(adf.link(name, url)) for name, url in (("Open in Wave", invoice.url), ("PDF", invoice.pdf_url)) if url]
    return adf.document([*((description or {}).get("content") or []), amounts, *links])


def status_of(invoice: Invoice, rules: Iterable[StatusRule]) -> Document | None:
    """Return the status that the invoice's state means, None where no rule says one."""
    status = next((rule.status.strip() for rule in rules if rule.state.upper() == invoice.status.upper()), "")
    if not status:
        return None
    return Document("status", invoice.key, {"status": status}, parent=Link("issue", invoice.key), modified_at=invoice.modified_at)


def payments(plan: Plan, snapshot: Snapshot, invoice: Invoice, trace: Trace) -> list[Document]:
    """Return a worklog or comment per payment, as the route's option says."""
    return [payment_document(plan, snapshot, invoice, payment, trace) for payment in invoice.payments]


def payment_document(plan: Plan, snapshot: Snapshot, invoice: Invoice, payment: Payment, trace: Trace) -> Document:
    """Return what shows one payment on its invoice's issue."""
    rules = [rule for rule in plan.rules("payment") if rule.target == "comment"]
    values, sent = fill(rules, context.of_payment(snapshot, payment, trace))
    fields: dict[str, Value] = {name: marked(_text(value), payment.key) for name, value in values.items()}
    trace_fields = {name: marked(_text(value), payment.key) for name, value in sent.items()}
    if not fields and not trace_fields:
        fields = {"comment": marked("", payment.key)}
    kind = str(plan.options.get("payments") or "worklog")
    if kind == "worklog":
        fields |= {"started": started(snapshot.business.timezone, invoice, payment), "timeSpentSeconds": PAYMENT_SECONDS}
    return Document(
        kind,
        payment.key,
        fields,
        trace_fields,
        parent=Link("issue", invoice.key),
        upsert=False,
        find_lags=False,
        modified_at=invoice.modified_at,
        created_at=payment.created_at,
    )


def marker(key: str) -> str:
    """Return the word in a worklog or comment by which its payment is found again, should the property not be kept."""
    return f"wave-pay-{key_digest(key)}"


def marked(text: str, key: str) -> adf.Node:
    """Return a text as document, with the payment's marker below."""
    return adf.document([*adf.paragraphs(text), adf.paragraph(adf.text(marker(key)))])


def started(zone: str, invoice: Invoice, payment: Payment) -> str:
    """Return noon of the payment's date where the business is; without a date, of the next best one that never moves."""
    where = zone_of(zone)
    day = payment.paid_on or _day(payment.created_at, where) or invoice.issued_on or _day(invoice.created_at, where)
    return stamp(datetime.combine(day or invoice.modified_at.astimezone(where).date(), time(12), where))


def _day(moment: datetime | None, where: ZoneInfo) -> date | None:
    return moment.astimezone(where).date() if moment else None


def deletion(kind: IssueKind, key: str) -> Document:
    """Return what marks the issue of a record that was deleted in Wave; people decide what becomes of the issue."""
    return Document("deletion", key, {"labels": [DELETED_LABEL], "comment": "deleted in Wave"}, parent=Link(kind.kind, key), partial=True)
