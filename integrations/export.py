"""Writes what the database holds as the configuration file that `apply` reads, secrets left out."""

import json
import re
from collections.abc import Iterator
from typing import Any

from integrations import oauth, registry
from integrations.declared import ENVIRONMENT, WEBHOOK_SECRETS
from integrations.models import Connection, Intake, Route

# Where these are optional, Connect or the system's own token endpoint gives new ones: an old one is worth nothing elsewhere.
TOKENS = ("access_token", "refresh_token")
HEAD = """\
# Written by `manage.py export`: connections and routes, without secrets.
# `manage.py apply` of this file changes nothing where it was written: a secret whose variable is not set stays.
# Elsewhere set these variables first; accounts with a consent are then connected with the Connect button.
"""


def text() -> str:
    """Return the whole file."""
    names = Variables()
    connections = [_connection(row, names) for row in Connection.objects.order_by("slug")]
    routes = [_route(row) for row in Route.objects.select_related("source", "destination").order_by("slug")]
    listed = "".join(f"#   {name}\n" for name in names.given) or "#   (none)\n"
    return "\n".join([HEAD + listed, *connections, *routes])


class Variables:
    """Names of environment variables, each given once."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def name(self, slug: str, secret: str) -> str:
        """Return a name that says whose secret it holds; slugs that differ in signs or case only get another."""
        plain = re.sub(r"[^A-Z0-9]", "_", f"{slug}_{secret}".upper())
        name = f"_{plain}" if plain[0].isdigit() else plain
        while name in self.given:
            name += "_"
        self.given.append(name)
        return name


# --- Tables --------------------------------------------------------------------------------------------------------


def _connection(row: Connection, names: Variables) -> str:
    values = {"slug": row.slug, "system": row.system, "auth": row.auth, **row.settings}
    values |= {name: ENVIRONMENT + names.name(row.slug, name) for name in _secrets_of(row)}
    count = len(_webhook_secrets(row))
    if count:
        values[WEBHOOK_SECRETS] = [ENVIRONMENT + names.name(row.slug, f"webhook_secret_{number}") for number in range(1, count + 1)]
    return "[[connection]]\n" + _lines(values)


def _secrets_of(row: Connection) -> list[str]:
    way = registry.entry(row.system).system.auth(row.auth)
    if way is None:
        return []
    held = oauth.secrets_of(row.credential)
    return [name for name in (*way.secrets, *(name for name in way.optional_secrets if name not in TOKENS)) if held.get(name)]


def _webhook_secrets(row: Connection) -> list[str]:
    intake = Intake.objects.filter(connection=row).first()
    found: list[str] = json.loads(intake.secrets) if intake else []
    return found


def _route(row: Route) -> str:
    values = {"slug": row.slug, "source": row.source.slug, "destination": row.destination.slug, "kinds": row.kinds}
    parts = ["[[route]]\n" + _lines(values | {"paused": row.paused_at is not None})]
    parts += [f"[route.{name}]\n{_lines(table)}" for name, table in (("options", row.options), ("statuses", _statuses(row))) if table]
    parts += [f"[route.fields.{kind}]\n{_lines(table)}" for kind, table in _fields(row).items()]
    return "".join(parts) + "".join(_passed_through(row))


def _statuses(row: Route) -> dict[str, str]:
    """Return the statuses that differ from the system's own; a state that has no row any more is left alone: ""."""
    usual = registry.entry(row.destination.system).system.statuses
    held = dict(row.status_mappings.order_by("id").values_list("state", "status"))
    removed = {state: "" for state, status in usual.items() if status and state not in held}
    changed = {state: status for state, status in held.items() if usual.get(state, "") != status}
    return dict(sorted((changed | removed).items()))


def _passed_through(row: Route) -> Iterator[str]:
    """Yield as comments what the file format has no words for."""
    for mapping in row.status_mappings.exclude(via="").order_by("id"):
        yield f"# In the browser: the way to {_value(mapping.status)} ({mapping.state}) passes through {_value(mapping.via)}\n"


def _fields(row: Route) -> dict[str, dict[str, str]]:
    """Return by kind the templates that differ from the defaults; a default that was taken out is empty."""
    usual = {(one.kind, one.target): one.template for one in registry.entry(row.destination.system).system.defaults}
    held = {(kind, target): template for kind, target, template in row.field_mappings.values_list("kind", "target", "template")}
    found: dict[str, dict[str, str]] = {}
    for place in sorted({*usual, *held}):
        if held.get(place, "") != usual.get(place):
            found.setdefault(place[0], {})[place[1]] = held.get(place, "")
    return found


# --- TOML ----------------------------------------------------------------------------------------------------------


def _lines(values: dict[str, Any]) -> str:
    return "".join(f"{_key(name)} = {_value(value)}\n" for name, value in values.items() if value is not None)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _value(name)


def _value(value: Any) -> str:
    """Write text, truth, numbers and lists: JSON's words for these are TOML's, but for one character.

    https://toml.io/en/v1.0.0#string
    """
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
