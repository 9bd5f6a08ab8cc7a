"""What a snapshot should look like in Zendesk: documents, their columns and their values. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date
from decimal import Decimal
from typing import Any

from integrations.core import context
from integrations.core.documents import Document, Link, Value
from integrations.core.mapping import fill
from integrations.core.observing import squeezed
from integrations.core.ports import FieldDefault, FieldRule, Plan, Trace
from integrations.core.records import Customer, Invoice, Payment, Snapshot, number_of

ORGANIZATION, USER, INVOICE, PAYMENT = "organization", "user", "wave_invoice", "wave_payment"
# The lookup fields of our custom objects; code fills them, no mapping does.
ORGANIZATION_LOOKUP, INVOICE_LOOKUP = "organization", "invoice"
STANDARD = {
    "customer": frozenset({"name", "details", "notes"}),
    "contact": frozenset({"name", "phone", "email"}),
    "invoice": frozenset({"name"}),
    "payment": frozenset({"name"}),
}
NAME_MOST = 255
TEXT_MOST = 60_000
RECORD_TEXT_MOST = 4_000  # a record holds 32 KB in all
DELETED = "DELETED"

Types = Mapping[str, str]  # field key -> Zendesk's type
Values = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Column:
    """A field that we create at Zendesk, and what fills it on a new route."""

    key: str
    title: str
    type: str
    template: str


TRACE_TEMPLATES = ("{{ trace.synced_at }}", "{{ trace.job_id }}")
COLUMNS: dict[str, tuple[Column, ...]] = {
    "customer": (
        Column("wave_email", "Wave e-mail", "text", "{{ customer.email }}"),
        Column("wave_phone", "Wave phone", "text", "{{ customer.phone }}"),
        Column("wave_website", "Wave website", "text", "{{ customer.website }}"),
        Column("wave_address", "Wave address", "textarea", "{{ customer.address }}"),
        Column("wave_currency", "Wave currency", "text", "{{ customer.currency }}"),
        Column("wave_outstanding", "Wave outstanding", "decimal", "{{ customer.outstanding }}"),
        Column("wave_overdue", "Wave overdue", "decimal", "{{ customer.overdue }}"),
        Column("wave_open_count", "Wave open invoices, number", "integer", "{{ customer.open_count }}"),
        Column("wave_overdue_count", "Wave overdue invoices, number", "integer", "{{ customer.overdue_count }}"),
        Column("wave_oldest_overdue_days", "Wave oldest overdue, days", "integer", "{{ customer.oldest_overdue_days }}"),
        Column("wave_last_payment", "Wave last payment", "text", "{{ customer.last_payment }}"),
        Column("wave_open_invoices", "Wave open invoices", "textarea", "{{ customer.open_invoices }}"),
        Column("wave_recent_changes", "Wave last changes", "textarea", "{{ customer.recent_changes }}"),
        Column("wave_synced_at", "Wave synced at", "text", TRACE_TEMPLATES[0]),
        Column("wave_job_id", "Wave sync job", "text", TRACE_TEMPLATES[1]),
    ),
    "invoice": (
        Column("status", "Status", "text", "{{ invoice.status }}"),
        Column("po_number", "P.O. number", "text", "{{ invoice.po_number }}"),
        Column("issued_on", "Issued on", "date", "{{ invoice.issued_on }}"),
        Column("due_on", "Due on", "date", "{{ invoice.due_on }}"),
        Column("total", "Total", "decimal", "{{ invoice.total }}"),
        Column("paid", "Paid", "decimal", "{{ invoice.paid }}"),
        Column("due", "Due", "decimal", "{{ invoice.due }}"),
        Column("currency", "Currency", "text", "{{ invoice.currency }}"),
        Column("url", "Link", "text", "{{ invoice.url }}"),
        Column("synced_at", "Synced at", "text", TRACE_TEMPLATES[0]),
        Column("job_id", "Sync job", "text", TRACE_TEMPLATES[1]),
    ),
    "payment": (
        Column("amount", "Amount", "decimal", "{{ payment.amount }}"),
        Column("currency", "Currency", "text", "{{ payment.currency }}"),
        Column("paid_on", "Paid on", "date", "{{ payment.paid_on }}"),
        Column("method", "Method", "text", "{{ payment.method }}"),
        Column("memo", "Memo", "text", "{{ payment.memo }}"),
        Column("synced_at", "Synced at", "text", TRACE_TEMPLATES[0]),
        Column("job_id", "Sync job", "text", TRACE_TEMPLATES[1]),
    ),
}
# An account without our fields shows this much; notes stay the agents' own.
DETAILS = "\n".join(
    (
        "{% if customer.email %}E-mail: {{ customer.email }}",
        "{% endif %}{% if customer.phone %}Phone: {{ customer.phone }}",
        "{% endif %}{% if customer.website %}Website: {{ customer.website }}",
        "{% endif %}{% if customer.address %}Address: {{ customer.address }}",
        "{% endif %}{% if customer.open_invoices %}Open invoices:",
        "{{ customer.open_invoices }}{% endif %}",
    )
)
DEFAULTS = (
    FieldDefault("customer", "name", "{{ customer.name }}"),
    FieldDefault("customer", "details", DETAILS),
    FieldDefault("contact", "name", "{{ contact.name }}"),
    FieldDefault("contact", "email", "{{ contact.email }}"),
    FieldDefault("contact", "phone", "{{ contact.phone }}"),
    FieldDefault("invoice", "name", "{{ invoice.number }}"),
    FieldDefault("payment", "name", "{{ invoice.number }}: {{ payment.amount }} {{ payment.currency }}"),
    *(FieldDefault(kind, column.key, column.template) for kind, columns in COLUMNS.items() for column in columns),
)
# What a record says once its invoice is gone from Wave; known by its template, for people may use fields of their own.
GONE: dict[str, Value] = {
    "{{invoice.status}}": DELETED,
    "{{invoice.total}}": "0.00",
    "{{invoice.paid}}": "0.00",
    "{{invoice.due}}": "0.00",
}


# --- Values ---------------------------------------------------------------------------------------------------------
def wire(value: Value, kind: str = "text", *, most: int = TEXT_MOST) -> Value:
    """Return a value as Zendesk takes it in a field of this type: empty as None, decimals and dates as text."""
    if isinstance(value, Link):
        return value
    if value is None or value == "":
        return None
    if kind == "checkbox":
        return value if isinstance(value, bool) else str(value).strip().lower() in ("true", "yes", "1")
    if isinstance(value, int) and not isinstance(value, bool) and kind in ("integer", "decimal"):
        return value
    return _text(value)[:most] or None


def _text(value: Value) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).strip()


def _filled(plan: Plan, kind: str, about: Mapping[str, Any], types: Types, *, most: int = TEXT_MOST) -> tuple[Values, Values]:
    """Return the fields and the trace of a document; a target that the account lacks is left out."""
    rules = usable(plan, kind, types)
    fields, trace = fill(rules, about)
    return _wired(kind, fields, types, most), _wired(kind, trace, types, most)


def usable(plan: Plan, kind: str, types: Types) -> list[FieldRule]:
    """Return the rules whose target exists: a member that every account has, or a field that this one has."""
    return [rule for rule in plan.rules(kind) if rule.target in STANDARD[kind] or rule.target in types]


def _wired(kind: str, values: Mapping[str, Value], types: Types, most: int) -> dict[str, Value]:
    return {
        name: wire(value, "text" if name in STANDARD[kind] else types[name], most=NAME_MOST if name == "name" else most)
        for name, value in values.items()
    }


# --- Documents ------------------------------------------------------------------------------------------------------
def organization(plan: Plan, snapshot: Snapshot, customer: Customer, trace: Trace, types: Types) -> Document:
    """Return the organization of the snapshot's customer."""
    fields, traced = _filled(plan, "customer", context.of_customer(snapshot, trace), types)
    fields["name"] = fields.get("name") or organization_name(customer)
    return Document(ORGANIZATION, customer.key, fields, traced, modified_at=customer.modified_at, created_at=customer.created_at)


def organization_name(customer: Customer) -> str:
    """Return the name that an organization gets where no mapping says otherwise; Zendesk refuses an empty one."""
    return customer.name.strip()[:NAME_MOST] or f"Wave customer {customer.number}"


def stub(customer: Customer) -> Document:
    """Return an organization with its name only, for an invoice that comes before its customer."""
    fields = {"name": organization_name(customer)}
    return Document(ORGANIZATION, customer.key, fields, partial=True, modified_at=customer.modified_at, created_at=customer.created_at)


def contact(plan: Plan, snapshot: Snapshot, customer: Customer, trace: Trace) -> Document | None:
    """Return the user of the snapshot's customer, None for one without an e-mail address."""
    if not customer.email.strip():
        return None
    fields, traced = _filled(plan, "contact", context.of_contact(snapshot, trace), {})
    fields["name"] = fields.get("name") or customer.contact_name.strip()[:NAME_MOST] or customer.email
    fields["email"] = fields.get("email") or customer.email.strip()
    parent = Link(ORGANIZATION, customer.key)
    return Document(USER, customer.key, fields, traced, parent, modified_at=customer.modified_at, created_at=customer.created_at)


def invoice(plan: Plan, snapshot: Snapshot, shown: Invoice, trace: Trace, types: Types) -> Document:
    """Return the record of the snapshot's invoice."""
    fields, traced = _filled(plan, "invoice", context.of_invoice(snapshot, trace), types, most=RECORD_TEXT_MOST)
    fields["name"] = fields.get("name") or shown.id
    parent = Link(ORGANIZATION, shown.customer.key)
    fields |= {ORGANIZATION_LOOKUP: parent} if ORGANIZATION_LOOKUP in types else {}
    return Document(INVOICE, shown.key, fields, traced, parent, modified_at=shown.modified_at, created_at=shown.created_at)


def payment(plan: Plan, snapshot: Snapshot, shown: Invoice, paid: Payment, trace: Trace, types: Types) -> Document:
    """Return the record of one payment of the snapshot's invoice."""
    fields, traced = _filled(plan, "payment", context.of_payment(snapshot, paid, trace), types, most=RECORD_TEXT_MOST)
    fields["name"] = fields.get("name") or paid.number
    parent = Link(INVOICE, shown.key)
    fields |= {ORGANIZATION_LOOKUP: Link(ORGANIZATION, shown.customer.key)} if ORGANIZATION_LOOKUP in types else {}
    if INVOICE_LOOKUP in types:
        # Where Zendesk took no lookup to another custom object the field is a text, and the number must do.
        fields[INVOICE_LOOKUP] = parent if types[INVOICE_LOOKUP] == "lookup" else wire(shown.number)
    return Document(PAYMENT, paid.key, fields, traced, parent, modified_at=shown.modified_at, created_at=paid.created_at)


def gone_invoice(plan: Plan, key: str, trace: Trace, types: Types) -> Document | None:
    """Return what marks the record of an invoice that left Wave, None where no field could say so."""
    rules = usable(plan, "invoice", types)
    marks = {rule.target: GONE[squeezed(rule.template)] for rule in rules if squeezed(rule.template) in GONE}
    traced = fill([rule for rule in rules if rule.template in TRACE_TEMPLATES], {"trace": _traced(trace)})[1]
    if not marks:
        return None
    return Document(INVOICE, key, marks, _wired("invoice", traced, types, RECORD_TEXT_MOST), partial=True)


def _traced(trace: Trace) -> dict[str, str]:
    synced_at = trace.synced_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {"synced_at": synced_at, "job_id": trace.job_id}


# --- Bodies ---------------------------------------------------------------------------------------------------------
def organization_content(document: Document, types: Types) -> dict[str, Any]:
    """Return the members of an organization write; keys that the account lacks are left out."""
    values = {**document.trace, **document.fields}
    own = {name: values[name] for name in types if name in values and name not in STANDARD["customer"]}
    standard = {name: values[name] for name in sorted(STANDARD["customer"]) if name in values}
    content = {**standard, "external_id": document.key}
    return {**content, "organization_fields": own} if own else content


def record_content(document: Document, types: Types) -> dict[str, Any]:
    """Return the members of a record write; keys that the account lacks are left out."""
    values = {**document.trace, **document.fields}
    own = {name: values[name] for name in types if name in values and name != "name"}
    content: dict[str, Any] = {"external_id": document.key, "custom_object_fields": own}
    return {"name": values["name"], **content} if values.get("name") else content


def suffixed(name: str, number: str) -> str:
    """Return the name with the customer's number behind it, within Zendesk's length."""
    end = f" ({number})"
    return name[: NAME_MOST - len(end)] + end


def number(key: str, display_id: str) -> str:
    """Return what tells customers of one name apart: the number that people see, else Wave's own."""
    return display_id or number_of(key)


def known_columns(kind: str, rules: Sequence[FieldRule]) -> list[Column]:
    """Return our columns that a mapping of this kind fills."""
    targets = {rule.target for rule in rules if rule.kind == kind}
    return [column for column in COLUMNS[kind] if column.key in targets]
