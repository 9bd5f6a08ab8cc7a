"""Read many of Zendesk's objects in one call, and tell which fields they hold otherwise than a document wants."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from integrations.core.documents import Document, Link, Observed, Value
from integrations.core.observing import amount_target, number, same_day, same_number, same_text
from integrations.core.ports import FieldRule
from integrations.destinations.zendesk.client import Json, ZendeskClient
from integrations.destinations.zendesk.mapping import INVOICE, ORGANIZATION, PAYMENT, STANDARD, USER, Types, suffixed

MOST = 100
# Whose field mappings fill a kind of document.
FILLED_BY = {ORGANIZATION: "customer", USER: "contact", INVOICE: "invoice", PAYMENT: "payment"}
OBSERVES = {kind: kind for kind in FILLED_BY}
OURS = "end-user"  # the role that our users have: agents and admins are always somebody else's


# --- Reading --------------------------------------------------------------------------------------------------------
def observe(client: ZendeskClient, kind: str, wanted: Mapping[str, str], rules: Iterable[FieldRule]) -> dict[str, Observed]:
    """Return what the objects of these keys hold, by key.

    Organizations and records are found by the key that they carry, a user by the id where one is known: the user of
    another origin may have another external id. Only users of which some are known and some are not cost two calls.
    """
    found: dict[str, list[Json]] = {}
    for key, row in _rows(client, kind, wanted) if wanted else ():
        if key in wanted:
            found.setdefault(key, []).append(row)
    target = amount_target(rules, FILLED_BY[kind])
    return {key: _observed(kind, rows, wanted[key], target) for key, rows in found.items()}


def _rows(client: ZendeskClient, kind: str, wanted: Mapping[str, str]) -> Iterator[tuple[str, Json]]:
    """Yield rows with their keys; never by position, for the order of the answer is not that of the question."""
    keys = list(wanted)
    if kind == USER:
        yield from _users(client, wanted)
    elif kind == ORGANIZATION:
        yield from _keyed(client.show_organizations(keys))
    else:
        # Of records Zendesk compares external ids with their case.
        yield from ((str(row.get("external_id")), row) for row in client.records_keyed(kind, keys))


def _users(client: ZendeskClient, wanted: Mapping[str, str]) -> Iterator[tuple[str, Json]]:
    known = {remote_id: key for key, remote_id in wanted.items() if remote_id}
    rest = [key for key, remote_id in wanted.items() if not remote_id]
    rows = client.show_users(list(known)) if known else []
    yield from ((known.get(str(row.get("id")), ""), row) for row in rows)
    if rest:
        yield from _keyed(client.show_users_keyed(rest))


def _keyed(rows: Sequence[Json]) -> Iterator[tuple[str, Json]]:
    # External ids of organizations and users have no case, our keys are in lower case.
    yield from ((str(row.get("external_id")).lower(), row) for row in rows)


def _observed(kind: str, rows: Sequence[Json], known: str, target: str) -> Observed:
    """Return what was seen under one key. That Zendesk lets two objects carry one external id has been reported."""
    if len(rows) > 1:
        rows = [row for row in rows if str(row["id"]) == known] or rows
    if len(rows) > 1:
        return Observed("", twins=tuple(sorted(str(row["id"]) for row in rows)))
    held = _held(kind, rows[0])
    return Observed(str(rows[0]["id"]), held, number(held.get(target)) if target else None)


def _held(kind: str, row: Json) -> Json:
    own = row.get("organization_fields") if kind == ORGANIZATION else row.get("custom_object_fields")
    names = {*STANDARD[FILLED_BY[kind]], *(("role",) if kind == USER else ())}
    return {**(own or {}), **{name: row[name] for name in names if name in row}}


# --- Comparing ------------------------------------------------------------------------------------------------------
def drift(document: Document, seen: Observed, types: Types, numbers: Iterable[str]) -> frozenset[str]:
    """Return the fields that the object holds otherwise; `numbers` are what may stand behind an organization's name.

    Left out, because no write of ours would mend them: fields that the account does not have or does not show, links
    without an id, users who are no end users, and a user's address: a changed one is added beside the old one, and
    only the primary one comes along in bulk, so that a further address would be taken for drift for ever.
    """
    if document.kind == USER and seen.held.get("role", OURS) != OURS:
        return frozenset()
    return frozenset(
        name
        for name, wanted in document.fields.items()
        if name in seen.held and not isinstance(wanted, Link) and not _same(document.kind, name, wanted, seen.held[name], types, numbers)
    )


def _same(kind: str, name: str, wanted: Value, held: Any, types: Types, numbers: Iterable[str]) -> bool:
    if kind == USER:
        return {"email": _whatever, "phone": _same_phone}.get(name, same_text)(wanted, held)
    if kind == ORGANIZATION and name == "name":
        return any(same_text(one, held) for one in (wanted, *(suffixed(str(wanted), number) for number in numbers)))
    if name in STANDARD[FILLED_BY[kind]]:
        return same_text(wanted, held)
    return name not in types or _COMPARED.get(types[name], same_text)(wanted, held)


def _whatever(wanted: Value, held: Any) -> bool:
    return True


def _same_phone(wanted: Value, held: Any) -> bool:
    # Telephony writes numbers its own way, e.g. +15550100.
    return re.sub(r"\W", "", str(wanted or "")) == re.sub(r"\W", "", str(held or ""))


def _same_checkbox(wanted: Value, held: Any) -> bool:
    # One that was never ticked comes as false or null.
    return _ticked(wanted) == _ticked(held)


def _ticked(value: Any) -> bool:
    return str(value).strip().lower() in ("true", "yes", "1")


def _same_choices(wanted: Value, held: Any) -> bool:
    return _choices(wanted) == _choices(held)


def _choices(value: Any) -> set[str]:
    return {str(one) for one in (value if isinstance(value, list) else [value]) if one not in (None, "")}


# By Zendesk's type of field; what is not named here is text. Dates come back as 2018-11-04T00:00:00+00:00, decimals as
# text or number of any precision. https://developer.zendesk.com/api-reference/ticketing/organizations/organization_fields/
_COMPARED: Mapping[str, Callable[[Value, Any], bool]] = {
    "integer": same_number,
    "decimal": same_number,
    "date": same_day,
    "checkbox": _same_checkbox,
    "multiselect": _same_choices,
}
