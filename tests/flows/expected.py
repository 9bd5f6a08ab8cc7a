"""What should stand at the destinations, built from the values that a test writes down, and what does stand there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from audit.models import SyncJob
from tests.flows.world import NOW, World, key_of, label_of, marker_of, number_of

TIME, JOB = "<a time since the test began>", "<the id of a job>"
NOON = "2026-05-04T16:00:00.000+0000"  # in Toronto


@dataclass(frozen=True, slots=True)
class Paid:
    """A payment as a test tells it: its id, amount, method and day."""

    id: str
    amount: str
    method: str = "BANK_TRANSFER"
    on: str = "2026-05-04"


@dataclass(frozen=True, slots=True)
class Billed:
    """An invoice as a test tells it; `step` is the status of its issue."""

    status: str
    step: str
    total: str = "120.00"
    paid: str = "0.00"
    due: str = "120.00"
    issued_on: str = "2026-05-04"
    due_on: str = "2026-06-03"
    number: str = "INV-1"
    po_number: str = ""
    payments: tuple[Paid, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """A customer's account as a test tells it; `changes` are lines, the newest first."""

    outstanding: str = "0.00"
    overdue: str = "0.00"
    open_count: int = 0
    overdue_count: int = 0
    oldest: int = 0
    open_invoices: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    last_payment: str | None = None
    name: str = "Northwind Bakery"
    contact: str = "Ada Miller"
    email: str = "ada@northwind.example"
    phone: str = "+1 416 555 0100"
    website: str | None = None
    address: str | None = None


def organization(customer: str, account: Account) -> dict[str, Any]:
    """Return the organization of a customer."""
    shown = {"E-mail": account.email, "Phone": account.phone, "Website": account.website, "Address": account.address}
    details = [f"{name}: {value}" for name, value in shown.items() if value]
    return {
        "name": account.name,
        "external_id": key_of(customer),
        "details": "\n".join([*details, *(["Open invoices:", *account.open_invoices] if account.open_invoices else [])]),
        "notes": None,
        "tags": [],
        "organization_fields": {
            "wave_email": account.email,
            "wave_phone": account.phone,
            "wave_website": account.website,
            "wave_address": account.address,
            "wave_currency": "USD",
            "wave_outstanding": account.outstanding,
            "wave_overdue": account.overdue,
            "wave_open_count": account.open_count,
            "wave_overdue_count": account.overdue_count,
            "wave_oldest_overdue_days": account.oldest,
            "wave_last_payment": account.last_payment,
            "wave_open_invoices": "\n".join(account.open_invoices) or None,
            "wave_recent_changes": "\n".join(account.changes) or None,
            "wave_synced_at": TIME,
            "wave_job_id": JOB,
        },
    }


def user(customer: str, account: Account) -> dict[str, Any]:
    """Return the user who is a customer's contact."""
    return {
        "name": account.contact,
        "email": account.email,
        "emails": [account.email],
        "external_id": key_of(customer),
        "role": "end-user",
        "phone": account.phone,
        "details": None,
        "notes": None,
        "tags": [],
        "organization_ids": [key_of(customer)],
    }


def invoice_record(customer: str, invoice: str, billed: Billed) -> dict[str, Any]:
    """Return the linked record of an invoice."""
    return {
        "name": billed.number,
        "external_id": key_of(invoice),
        "custom_object_fields": {
            "organization": key_of(customer),
            "status": billed.status,
            "po_number": billed.po_number or None,
            "issued_on": f"{billed.issued_on}T00:00:00+00:00",
            "due_on": f"{billed.due_on}T00:00:00+00:00",
            "total": billed.total,
            "paid": billed.paid,
            "due": billed.due,
            "currency": "USD",
            "url": f"https://wave.example/invoices/{number_of(invoice)}",
            "synced_at": TIME,
            "job_id": JOB,
        },
    }


def payment_record(customer: str, invoice: str, billed: Billed, paid: Paid) -> dict[str, Any]:
    """Return the linked record of a payment."""
    return {
        "name": f"{billed.number}: {paid.amount} USD",
        "external_id": key_of(paid.id),
        "custom_object_fields": {
            "organization": key_of(customer),
            "invoice": key_of(invoice),
            "amount": paid.amount,
            "currency": "USD",
            "paid_on": f"{paid.on}T00:00:00+00:00",
            "method": paid.method,
            "memo": None,
            "synced_at": TIME,
            "job_id": JOB,
        },
    }


def issue(invoice: str, billed: Billed, account: Account) -> dict[str, Any]:
    """Return the issue of an invoice with its worklogs."""
    po_number = [f"P.O. number: {billed.po_number}"] if billed.po_number else []
    lines = [f"Wave invoice {billed.number}: Invoice", f"Customer: {account.name}", f"Contact: {account.contact}"]
    lines += [f"E-mail: {account.email}", f"Phone: {account.phone}", *po_number]
    lines += [f"Issued: {billed.issued_on}", f"Due: {billed.due_on}"]
    amounts = [("Total", f"{billed.total} USD"), ("Paid", f"{billed.paid} USD"), ("Due", f"{billed.due} USD")]
    page = f"https://wave.example/invoices/{number_of(invoice)}"
    return {
        "type": "Task",
        "status": billed.step,
        "summary": f"{billed.number} {account.name}: {billed.total} USD",
        "labels": ["wave", label_of(invoice)],
        "duedate": billed.due_on,
        "description": _document([*map(_line, lines), _table(amounts), _link("Open in Wave", page), _link("PDF", f"{page}.pdf")]),
        "fields": {
            "Wave invoice id": number_of(invoice),
            "Wave invoice number": billed.number,
            "Wave customer": account.name,
            "Wave total": float(billed.total),
            "Wave paid": float(billed.paid),
            "Wave due": float(billed.due),
            "Wave currency": "USD",
            "Wave synced at": TIME,
            "Wave job id": JOB,
        },
        "properties": {"wave.invoice": {"key": key_of(invoice)}},
        "worklogs": [worklog(paid) for paid in billed.payments],
        "comments": [],
        "links": [],
    }


def worklog(paid: Paid) -> dict[str, Any]:
    """Return the worklog that shows a payment: a minute, at noon of its day where the business is."""
    text = f"Payment {paid.amount} USD by {paid.method} on {paid.on}"
    return {
        "timeSpentSeconds": 60,
        "started": f"{paid.on}{NOON[10:]}",
        "comment": _document([_line(text), _line(marker_of(paid.id))]),
        "properties": {"wave.payment": {"id": key_of(paid.id)}},
    }


def whole(customer: str = "", account: Account | None = None, invoices: Mapping[str, Billed] | None = None) -> dict[str, Any]:
    """Return all that should stand at both destinations for one customer with invoices, by their ids in Wave."""
    billed = invoices or {}
    payments = [payment_record(customer, invoice, one, paid) for invoice, one in billed.items() for paid in one.payments]
    return {
        "organizations": [organization(customer, account)] if account else [],
        "users": [user(customer, account)] if account else [],
        "wave_invoice": [invoice_record(customer, invoice, one) for invoice, one in billed.items()],
        "wave_payment": sorted(payments, key=lambda record: record["external_id"]),
        "issues": [issue(invoice, one, account) for invoice, one in billed.items() if account],
        "else": {"violations": [], "mails": [], "webhooks": []},
    }


# --- What stands there --------------------------------------------------------------------------------------------


def standing(world: World) -> dict[str, Any]:
    """Return all that stands at both destinations; ids of the vendors' own are told by our keys, times and job ids checked."""
    zendesk, jira = world.zendesk.state(), world.jira.state()
    assert zendesk["organization_fields"] == world.baseline["fields"]
    assert jira["fields"] == world.baseline["jira"]
    records = {entry["key"]: entry["records"] for entry in zendesk["custom_objects"]}
    rows = [*zendesk["organizations"], *(record for kept in records.values() for record in kept)]
    names = {str(row["id"]): row["external_id"] or row["name"] for row in rows}
    return {
        "organizations": [_plain(row, names, "organization_fields") for row in zendesk["organizations"]],
        "users": [_plain(row, names) | {"organization_ids": _named(row["organization_ids"], names)} for row in zendesk["users"]],
        "wave_invoice": [_plain(row, names, "custom_object_fields") for row in records.get("wave_invoice", [])],
        "wave_payment": [_plain(row, names, "custom_object_fields") for row in records.get("wave_payment", [])],
        "issues": [_plain_issue(row) for row in jira["issues"].values()],
        "else": {
            "violations": [*zendesk["violations"], *jira["violations"]],
            "mails": zendesk["mails"],
            "webhooks": jira["webhooks"],
        },
    }


def issues_of(world: World) -> list[dict[str, Any]]:
    """Return the issues that stand in Jira."""
    found: list[dict[str, Any]] = standing(world)["issues"]
    return found


def organization_of(world: World) -> dict[str, Any]:
    """Return the only organization that stands in Zendesk."""
    [found] = standing(world)["organizations"]
    return dict(found)


def _plain(row: Mapping[str, Any], names: Mapping[str, str], own: str = "") -> dict[str, Any]:
    assert row["id"]
    values = {name: _told(name, names.get(str(value), value)) for name, value in (row[own] if own else {}).items()}
    return {**{name: value for name, value in row.items() if name != "id"}, **({own: values} if own else {})}


def _plain_issue(row: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: _told(name.lower().replace(" ", "_"), value) for name, value in row["fields"].items()}
    return {
        **_without_id(row),
        "fields": fields,
        "worklogs": [_without_id(log) for log in row["worklogs"]],
        "comments": [_without_id(comment) for comment in row["comments"]],
    }


def _without_id(row: Mapping[str, Any]) -> dict[str, Any]:
    assert row["id"].isdecimal()
    return {name: value for name, value in row.items() if name != "id"}


def _named(ids: Iterable[int], names: Mapping[str, str]) -> list[str]:
    return [names[str(one)] for one in ids]


def _told(name: str, value: Any) -> Any:
    """Return a value, or the word for a time or a job id once it is seen to be one."""
    if name.endswith("synced_at") and value is not None:
        assert NOW - timedelta(seconds=1) <= datetime.fromisoformat(value) <= timezone.now()
        return TIME
    if name.endswith("job_id") and value is not None:
        assert SyncJob.objects.filter(pk=value).exists()
        return JOB
    return value


# --- Atlassian documents ------------------------------------------------------------------------------------------


def _document(content: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"type": "doc", "version": 1, "content": list(content)}


def _line(text: str) -> dict[str, Any]:
    return {"type": "paragraph", "content": [{"type": "text", "text": text}]}


def _link(text: str, href: str) -> dict[str, Any]:
    marked = {"type": "text", "text": text, "marks": [{"type": "link", "attrs": {"href": href}}]}
    return {"type": "paragraph", "content": [marked]}


def _table(rows: Sequence[tuple[str, str]]) -> dict[str, Any]:
    cells = [[{"type": "tableHeader", "content": [_line(name)]}, {"type": "tableCell", "content": [_line(value)]}] for name, value in rows]
    return {"type": "table", "content": [{"type": "tableRow", "content": pair} for pair in cells]}
