"""Which remote object a request would write, and which of Wave's records that object shows."""

import json
import re
from dataclasses import dataclass
from typing import Any

from integrations.sandbox.server import Request
from tests.flows.world import World
from tests.simulation.wire import Trip

JIRA_KEYS = ("wave.invoice", "wave.customer")
STUB = {"name", "external_id", "organization_fields"}
_ISSUE = re.compile(r".*/rest/api/3/issue/(\d+)(/.*)?")
_ORGANIZATION = re.compile(r"/api/v2/organizations/(\d+)")
_USER = re.compile(r"/api/v2/users/(\d+)")
_RECORD = re.compile(r"/api/v2/custom_objects/(\w+)/records(?:/(\w+))?")


@dataclass(frozen=True, slots=True)
class Target:
    """A remote object: a name for it, the key it carries, and whether only part of it is written."""

    object: str
    key: str
    partial: bool = False


def target_of(trip: Trip, world: World) -> Target | None:
    """Return what a request would write; None for one that only reads, and for set-up."""
    if not trip.writes or trip.system == "wave":
        return None
    return _of_jira(trip.request, world) if trip.system == "jira" else _of_zendesk(trip.request, world)


def _of_jira(request: Request, world: World) -> Target | None:
    if request.path.endswith("/rest/api/3/issue"):
        planted = {entry["key"]: entry["value"] for entry in _body(request).get("properties", [])}
        key = next((str(planted[name]["key"]) for name in JIRA_KEYS if name in planted), "")
        return Target(f"jira issue {key}", key)
    match = _ISSUE.fullmatch(request.path)
    issue = world.jira.issues.get(match[1]) if match else None
    if issue is None:
        return None
    key = next((str(issue.properties[name]["key"]) for name in JIRA_KEYS if name in issue.properties), "")
    return Target(f"jira issue {key}", key)


def _of_zendesk(request: Request, world: World) -> Target | None:
    path = request.path.removesuffix(".json")
    if path.endswith(("/organizations/create_or_update", "/users/create_or_update")):
        content = next(iter(_body(request).values()))
        return _named("organization" if "organizations" in path else "user", str(content.get("external_id") or ""), content)
    if match := _ORGANIZATION.fullmatch(path):
        row = world.zendesk.organizations.rows.get(int(match[1]))
        return _named("organization", str(row.external_id), _body(request).get("organization", {})) if row else None
    if match := _USER.fullmatch(path):
        user = world.zendesk.users.rows.get(int(match[1]))
        return _named("user", str(user.external_id), {}) if user and user.external_id else None
    if match := _RECORD.fullmatch(path):
        return _of_record(request, world, match[1], match[2])
    return None


def _of_record(request: Request, world: World, kind: str, number: str | None) -> Target | None:
    if number is None:
        key = request.arg("external_id") or str(_body(request).get("custom_object_record", {}).get("external_id") or "")
        return _named(kind, key, {}) if key else None
    record = world.zendesk.objects.rows[kind].records.get(number)
    return _named(kind, str(record.external_id), {}) if record else None


def _named(kind: str, key: str, content: dict[str, Any]) -> Target:
    fields = content.get("organization_fields", {})
    partial = kind == "organization" and content.keys() <= STUB and not {"wave_open_count", "wave_currency"} & fields.keys()
    return Target(f"zendesk {kind} {key}", key, partial)


def _body(request: Request) -> dict[str, Any]:
    found = json.loads(request.body or b"{}")
    return found if isinstance(found, dict) else {}
