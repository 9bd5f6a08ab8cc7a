"""What should stand at the end, worked out from Wave's books alone, and compared with what stands."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from integrations.sandbox.wave_ledger import DRAFTS, Invoice
from tests.flows import expected
from tests.flows.expected import Account, Billed, Paid
from tests.flows.world import World, key_of, label_of
from tests.simulation.stage import Stage
from tests.simulation.story import Story

STEPS = {"DRAFT": "To Do", "SAVED": "To Do", "PAID": "Done", "OVERPAID": "Done"}
SETTLED = ("PAID", "OVERPAID")
REMAPPED = "{% if invoice.po_number %}no. {{ invoice.po_number }}{% endif %}"  # what a person lets the records' po_number show
SHOWN = 5  # changes that an organization tells
Rows = Mapping[str, dict[str, Any]]


def compare(stage: Stage, world: World, story: Story, rows: Any) -> None:
    """Raise Violation at the first thing that stands otherwise than it should."""
    standing = expected.standing(world)
    accounts = {node: _account(node, world, rows) for node in story.customers}
    gone = {key_of(node) for node in [*story.deleted, *story.deleted_customers]}
    wanted = {
        "organizations": {key_of(node): expected.organization(node, account) for node, account in accounts.items()},
        "users": {key_of(node): expected.user(node, account) for node, account in accounts.items()},
        "wave_invoice": {key_of(node): _invoice_record(node, world, story) for node in story.invoices},
        "wave_payment": {one["external_id"]: one for node in story.invoices for one in _payment_records(node, world)},
        "issues": {label_of(node): _issue(node, world, accounts) for node in story.invoices},
    }
    foreign = _not_ours(rows)
    for part, should in wanted.items():
        found = {_name(row): row for row in standing[part] if not _is_gone(row, gone, story)}
        if part == "users":
            found = {key: row | _names(should.get(key, {})) if key in foreign else row for key, row in found.items()}
        _compare(stage, part, should, {key: _plain(row) for key, row in found.items()})
    _compare_gone(stage, standing, story)
    _organizations_kept(stage, world, story, rows)
    if standing["else"]["violations"]:
        stage.violate(f"the vendors would not have taken this: {standing['else']['violations'][:3]}")


def _compare(stage: Stage, part: str, should: Rows, found: Rows) -> None:
    if should.keys() != found.keys():
        stage.violate(f"{part}: missing {sorted(should.keys() - found.keys())}, too many {sorted(found.keys() - should.keys())}")
    for key, row in should.items():
        if _plain(row) != found[key]:
            stage.violate(f"{part} {key}: {_difference(_plain(row), found[key])}")


def _difference(should: Any, found: Any, where: str = "") -> str:
    if isinstance(should, dict) and isinstance(found, dict):
        for name in [*should, *(name for name in found if name not in should)]:
            if should.get(name) != found.get(name):
                return _difference(should.get(name), found.get(name), f"{where}.{name}")
    return f"{where} should be {json.dumps(should)[:400]} and is {json.dumps(found)[:400]}"


# --- What should stand --------------------------------------------------------------------------------------------


def _account(node: str, world: World, rows: Any) -> Account:
    wave, row = world.wave, world.wave.customers[node]
    own = [invoice for invoice in wave.invoices.values() if invoice.customer == node and invoice.status not in DRAFTS]
    due = sorted((invoice for invoice in own if invoice.amount_due > 0), key=lambda one: (-one.amount_due, one.invoice_number))
    return Account(
        outstanding=f"{wave.outstanding(node):.2f}",
        overdue=f"{wave.overdue(node):.2f}",
        open_count=len(due),
        open_invoices=tuple(f"{one.invoice_number}: {one.amount_due:.2f} USD, not yet due" for one in due),
        changes=_remembered_changes(node, rows),
        last_payment=_last_payment(node, rows),
        name=row.name,
        contact=f"{row.first_name} {row.last_name}",
        email=str(row.email),
        phone=str(row.phone),
        website=row.website,
    )


def _remembered_changes(node: str, rows: Any) -> tuple[str, ...]:
    """Return the newest changes that reads have shown: which states lay between two reads nobody knows."""
    query = "SELECT text FROM integrations_change WHERE customer_key = ? AND kind = 'invoice' ORDER BY at DESC, id DESC LIMIT ?"
    return tuple(row[0] for row in rows.execute(query, (key_of(node), SHOWN)))


def _last_payment(node: str, rows: Any) -> str | None:
    query = (
        "SELECT paid_on, amount, currency, method FROM integrations_change WHERE customer_key = ? AND kind = 'payment' "
        "AND NOT removed AND amount != '' ORDER BY paid_on DESC, at DESC, id DESC LIMIT 1"
    )
    found = rows.execute(query, (key_of(node),)).fetchone()
    return f"{found[0]}: {found[1]} {found[2]} ({found[3]})" if found else None


def _billed(row: Invoice) -> Billed:
    payments = tuple(Paid(one.id, f"{one.amount:.2f}", one.payment_method, one.payment_date.isoformat()) for one in row.payments)
    return Billed(
        status=row.status,
        step=STEPS.get(row.status, "In Progress"),
        total=f"{row.total:.2f}",
        paid=f"{row.amount_paid:.2f}",
        due=f"{row.amount_due:.2f}",
        issued_on=row.invoice_date.isoformat(),
        due_on=row.due_date.isoformat(),
        number=row.invoice_number,
        po_number=row.po_number or "",
        payments=payments,
    )


def _invoice_record(node: str, world: World, story: Story) -> dict[str, Any]:
    row = world.wave.invoices[node]
    billed = _billed(row)
    if story.remapped and billed.po_number:
        billed = replace(billed, po_number=f"no. {billed.po_number}")
    return expected.invoice_record(row.customer, node, billed)


def _payment_records(node: str, world: World) -> Iterable[dict[str, Any]]:
    row = world.wave.invoices[node]
    billed = _billed(row)
    return [expected.payment_record(row.customer, node, billed, paid) for paid in billed.payments]


def _issue(node: str, world: World, accounts: Mapping[str, Account]) -> dict[str, Any]:
    row = world.wave.invoices[node]
    return expected.issue(node, _billed(row), accounts[row.customer])


def _not_ours(rows: Any) -> set[str]:
    """Return the keys of the users that the product takes for somebody else's, and so leaves alone.

    Known and accepted: a user whose creation was not answered, and whose customer changed before the next look, is
    taken for another's.
    """
    query = "SELECT key FROM integrations_binding WHERE kind = 'user' AND NOT coalesce(json_extract(facts, '$.ours'), 0)"
    return {row[0] for row in rows.execute(query)}


def _names(user: Mapping[str, Any]) -> dict[str, Any]:
    return {name: user[name] for name in ("name", "phone") if name in user}


# --- What stands --------------------------------------------------------------------------------------------------


def _name(row: Mapping[str, Any]) -> str:
    labels = [label for label in row.get("labels", []) if label.startswith("wave-inv-")]
    return labels[0] if labels else str(row.get("external_id") or row.get("name"))


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of an issue what only the invoice's next change brings there, and the order in which payments were shown."""
    if "worklogs" not in row:
        return dict(row)
    settled = row["status"] == "Done"
    lines = [one for one in row["description"]["content"] if not _follows_later(one, settled=settled)]
    kept = {name: value for name, value in row.items() if name not in ("summary", "fields")} if settled else dict(row)
    return {**kept, "description": lines, "worklogs": sorted(row["worklogs"], key=str), "labels": sorted(row["labels"])}


def _follows_later(line: Mapping[str, Any], *, settled: bool) -> bool:
    text = str(line["content"][0].get("text", ""))
    return text.startswith(("Phone:", "Contact:", *(("Customer:", "E-mail:") if settled else ())))


def _is_gone(row: Mapping[str, Any], gone: set[str], story: Story) -> bool:
    planted = row.get("properties", {}).get("wave.invoice", {}).get("key", "")
    key = str(row.get("external_id") or planted)
    return key in gone or story.payments.get(key) in gone


def _organizations_kept(stage: Stage, world: World, story: Story, rows: Any) -> None:
    """The organization of a customer who was deleted in Wave stays, unless people delete it; its end was carried out."""
    query = "SELECT kind, remote_id, gone_at FROM integrations_binding WHERE key = ?"
    for node in story.deleted_customers:
        for kind, remote_id, gone_at in rows.execute(query, (key_of(node),)):
            if gone_at is None:
                stage.violate(f"{key_of(node)} was deleted in Wave, and its {kind} is bound as if it were not")
            if kind == "organization" and not story.reconciled and int(remote_id) not in world.zendesk.organizations.rows:
                stage.violate(f"{key_of(node)} was deleted in Wave, and its organization with it")


def _compare_gone(stage: Stage, standing: Mapping[str, Any], story: Story) -> None:
    """What was deleted in Wave and stood at a destination is marked there."""
    gone = {key_of(node) for node in story.deleted}
    for row in standing["wave_invoice"]:
        if row["external_id"] in gone and row["custom_object_fields"]["status"] != "DELETED":
            stage.violate(f"{row['external_id']} was deleted in Wave and is not marked in Zendesk")
    for row in standing["issues"]:
        key = row["properties"].get("wave.invoice", {}).get("key", "")
        if key in gone and "wave-deleted" not in row["labels"]:
            stage.violate(f"{key} was deleted in Wave and is not marked in Jira")
