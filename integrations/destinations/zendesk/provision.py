"""What a route needs at Zendesk before it can show everything: organization fields, custom objects and their fields."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from integrations.core.errors import Rejected
from integrations.core.ports import Plan, Step
from integrations.destinations.zendesk import mapping
from integrations.destinations.zendesk.client import Json, ZendeskClient
from integrations.destinations.zendesk.mapping import INVOICE, INVOICE_LOOKUP, ORGANIZATION_LOOKUP, PAYMENT, Types

ORIGIN = "Kept in step with Wave by ml-connector; changes made here are overwritten."
OBJECTS = {INVOICE: ("Wave invoice", "Wave invoices", "invoice"), PAYMENT: ("Wave payment", "Wave payments", "payment")}
ORGANIZATION_FIELDS_PAGE = "Admin Center > People > Configuration > Organization fields"
OBJECTS_PAGE = "Admin Center > Objects and rules > Custom objects > Objects"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something that should exist: its content, where an admin would add it, and the call that does."""

    what: str
    content: Json
    page: str
    add: Callable[[Json], None]

    @property
    def spelt(self) -> str:
        """What an admin has to enter."""
        entered = ("key", "type", "title", "title_pluralized", "relationship_target_type")
        return ", ".join(f'{name} "{self.content[name]}"' for name in entered if name in self.content)


def provision(client: ZendeskClient, plan: Plan, *, dry_run: bool) -> list[Step]:
    """Plan, or create, what the plan's mappings fill; what exists is left as it is."""
    steps = _organization_fields(client, plan, dry_run=dry_run) if "customer" in plan.kinds else []
    if "invoice" in plan.kinds and plan.options.get("invoice_storage", "auto") != "organization_fields":
        steps += _objects(client, plan, dry_run=dry_run)
    return steps


def _organization_fields(client: ZendeskClient, plan: Plan, *, dry_run: bool) -> list[Step]:
    present = client.organization_fields()
    wanted = [
        Wanted(f"organization field {content['key']}", content, ORGANIZATION_FIELDS_PAGE, client.add_organization_field)
        for content in _columns("customer", plan)
    ]
    return [*_field_steps(wanted, present, dry_run=dry_run), *_unknown("customer", "organization field", plan, present)]


def _columns(kind: str, plan: Plan) -> list[Json]:
    return [
        {"key": column.key, "title": column.title, "type": column.type, "description": ORIGIN}
        for column in mapping.known_columns(kind, plan.fields)
    ]


def _objects(client: ZendeskClient, plan: Plan, *, dry_run: bool) -> list[Step]:
    try:
        present = client.objects()
    except Rejected as error:
        if error.code not in ("forbidden", "missing"):
            raise
        return [_no_objects(plan)]
    kinds = [INVOICE, PAYMENT] if "payment" in plan.kinds else [INVOICE]
    return [step for kind in kinds for step in _object(client, plan, kind, exists=kind in present, dry_run=dry_run)]


def _no_objects(plan: Plan) -> Step:
    if plan.options.get("invoice_storage") == "custom_object":
        detail = "This account has no custom objects: take a plan that has them, widen the token's scope, or set invoice_storage to auto."
        return Step("custom objects", "by_hand", detail)
    return Step("invoice storage", "exists", "This account has no custom objects: the organization's own fields carry the invoices.")


def _object(client: ZendeskClient, plan: Plan, kind: str, *, exists: bool, dry_run: bool) -> list[Step]:
    title, plural, record = OBJECTS[kind]
    content = {"key": kind, "title": title, "title_pluralized": plural, "description": ORIGIN, "include_in_list_view": True}
    wanted = Wanted(f"custom object {kind}", content, OBJECTS_PAGE, client.add_object)
    made = Step(wanted.what, "exists") if exists else _step(wanted, dry_run=dry_run)
    fields = [*_lookups(client, kind), *(_object_field(client, kind, content) for content in _columns(record, plan))]
    if made.change == "by_hand":
        return [made, *(_by_hand(field, "the object comes first") for field in fields)]
    present = client.object_fields(kind) if made.change in ("exists", "created") else {}
    return [made, *_field_steps(fields, present, dry_run=dry_run), *_unknown(record, f"{kind} field", plan, present)]


def _object_field(client: ZendeskClient, kind: str, content: Json) -> Wanted:
    def add(body: Json) -> None:
        client.add_object_field(kind, body)

    return Wanted(f"{kind} field {content['key']}", content, f"{OBJECTS_PAGE} > {kind} > Fields", add)


def _lookups(client: ZendeskClient, kind: str) -> list[Wanted]:
    organization = _lookup(ORGANIZATION_LOOKUP, "Organization", "zen:organization")
    found = [_object_field(client, kind, organization)]
    if kind == PAYMENT:
        found.append(_invoice_lookup(client))
    return found


def _lookup(key: str, title: str, target: str) -> Json:
    return {"key": key, "title": title, "type": "lookup", "relationship_target_type": target, "description": ORIGIN}


def _invoice_lookup(client: ZendeskClient) -> Wanted:
    content = _lookup(INVOICE_LOOKUP, "Invoice", f"zen:custom_object:{INVOICE}")

    def add(body: Json) -> None:
        try:
            client.add_object_field(PAYMENT, body)
        except Rejected as error:
            if error.code != "invalid":
                raise
            # No lookup to another custom object here, or no more of them: a text then holds the invoice number.
            client.add_object_field(PAYMENT, {"key": INVOICE_LOOKUP, "title": "Invoice", "type": "text", "description": ORIGIN})

    return Wanted(f"{PAYMENT} field {INVOICE_LOOKUP}", content, f"{OBJECTS_PAGE} > {PAYMENT} > Fields", add)


def _field_steps(wanted: Sequence[Wanted], present: Types, *, dry_run: bool) -> list[Step]:
    steps = []
    for field in wanted:
        known = present.get(field.content["key"])
        steps.append(_step(field, dry_run=dry_run) if known is None else _existing(field, known))
    return steps


def _existing(wanted: Wanted, known: str) -> Step:
    asked = wanted.content["type"]
    return Step(wanted.what, "exists", "" if known == asked else f"is of type {known}; we would have made it {asked}")


def _step(wanted: Wanted, *, dry_run: bool) -> Step:
    if dry_run:
        return Step(wanted.what, "create", wanted.spelt)
    try:
        wanted.add(wanted.content)
    except Rejected as error:
        # Between our list and our write somebody made it, or it is there but inactive.
        return Step(wanted.what, "exists") if error.code == "exists" else _by_hand(wanted, str(error))
    return Step(wanted.what, "created", wanted.spelt)


def _by_hand(wanted: Wanted, why: str) -> Step:
    return Step(wanted.what, "by_hand", f"{wanted.page}: add {wanted.spelt} ({why})")


def _unknown(kind: str, noun: str, plan: Plan, present: Types) -> list[Step]:
    """Name the mapped fields that are neither ours to create nor there: a slip of the pen, or an admin's task."""
    ours: set[Any] = {column.key for column in mapping.COLUMNS[kind]} | mapping.STANDARD[kind]
    targets = sorted({rule.target for rule in plan.fields if rule.kind == kind} - ours - set(present))
    advice = "A mapping fills it, but there is no such field: add it, or correct the mapping."
    return [Step(f"{noun} {target}", "by_hand", advice) for target in targets]
