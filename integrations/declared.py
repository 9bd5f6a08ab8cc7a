"""Reads the configuration file: which connections and routes it declares, or every mistake in it. Touches no database."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from integrations import registry, rules
from integrations.core.errors import Misconfigured
from integrations.core.mapping import near
from integrations.core.records import STATES

ENVIRONMENT = "env:"
CONNECTION_KEYS = ("slug", "system", "auth")
WEBHOOK_SECRETS = "webhook_secrets"
ROUTE_KEYS = ("slug", "source", "destination", "kinds", "paused", "options", "statuses", "fields")


class InvalidFile(Misconfigured):
    """A file with mistakes, one line each; nothing was changed."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))


@dataclass(frozen=True, slots=True)
class ConnectionTable:
    """A [[connection]] with its env: values resolved. Its repr shows no secret.

    `absent` names the variables that are not set, by secret: what is stored already is kept then.
    """

    slug: str
    system: str
    auth: str
    settings: Mapping[str, Any]
    secrets: Mapping[str, str] = field(repr=False)
    webhook_secrets: tuple[str, ...] | None = field(default=None, repr=False)
    absent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """How messages call it."""
        return f'[[connection]] "{self.slug}"'


@dataclass(frozen=True, slots=True)
class RouteTable:
    """A [[route]]; what the file does not name is None or empty."""

    slug: str
    source: str | None = None
    destination: str | None = None
    kinds: Any = None
    paused: bool | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    statuses: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """How messages call it."""
        return f'[[route]] "{self.slug}"'


Table = TypeVar("Table", ConnectionTable, RouteTable)


@dataclass(frozen=True, slots=True)
class File:
    """A whole file."""

    connections: tuple[ConnectionTable, ...]
    routes: tuple[RouteTable, ...]


def parse(text: str, environment: Mapping[str, str]) -> File:
    """Return the file's tables. Raises InvalidFile naming every wrong table and key."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidFile([f"no valid TOML: {error}"]) from None
    mistakes: list[str] = []
    connections, routes = [], []
    for name in given:
        if name not in ("connection", "route"):
            mistakes.append(f'unknown table "{name}"{near(name, ["connection", "route"])}: known are [[connection]] and [[route]]')
    for table in _tables(given, "connection", mistakes):
        try:
            connections.append(_connection_table(table, environment))
        except Misconfigured as error:
            mistakes.append(f"{_where('connection', table)}: {error}")
    for table in _tables(given, "route", mistakes):
        try:
            routes.append(_route_table(table))
        except Misconfigured as error:
            mistakes.append(f"{_where('route', table)}: {error}")
    if mistakes:
        raise InvalidFile(mistakes)
    return File(tuple(connections), tuple(routes))


def _tables(given: Mapping[str, Any], name: str, mistakes: list[str]) -> list[dict[str, Any]]:
    """Return the tables of that name; note a single [name], and a slug that comes twice."""
    found = given.get(name, [])
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        mistakes.append(f"[{name}] must be written [[{name}]], once for each {name}")
        return []
    slugs = [str(table.get("slug")) for table in found]
    mistakes.extend(f'[[{name}]] "{slug}" is there twice' for slug in dict.fromkeys(slugs) if slugs.count(slug) > 1)
    return found


def _where(name: str, table: Mapping[str, Any]) -> str:
    slug = table.get("slug")
    return f'[[{name}]] "{slug}"' if isinstance(slug, str) else f"[[{name}]] without a slug"


def _connection_table(table: Mapping[str, Any], environment: Mapping[str, str]) -> ConnectionTable:
    slug, system = _word(table, "slug"), _word(table, "system")
    known_systems = [*registry.SOURCES, *registry.DESTINATIONS]
    if system not in known_systems:
        raise Misconfigured(f'unknown system "{system}"{near(system, known_systems)}: known are {", ".join(known_systems)}')
    auth = rules.auth_kind(system, _word(table, "auth"))
    setting_names = [setting.name for setting in auth.settings]
    secret_names = [*auth.secrets, *auth.optional_secrets]
    webhook = [WEBHOOK_SECRETS] if registry.takes_webhooks(system) else []
    _refuse_unknown(table, [*CONNECTION_KEYS, *setting_names, *secret_names, *webhook], f"auth {auth.name} of {system}")
    return ConnectionTable(
        slug=slug,
        system=system,
        auth=auth.name,
        settings={name: _resolved(table[name], name, environment) for name in setting_names if name in table},
        secrets=_secrets(table, secret_names, environment),
        webhook_secrets=_webhook_secrets(table, environment),
        absent=_absent(table, [*secret_names, *webhook], environment),
    )


def _refuse_unknown(table: Mapping[str, Any], known: list[str], of: str) -> None:
    for name in table:
        if name not in known:
            raise Misconfigured(f'unknown key "{name}"{near(name, known)}: {of} takes {", ".join(known)}')


def _word(table: Mapping[str, Any], name: str) -> str:
    value = table.get(name)
    if not isinstance(value, str) or not value:
        raise Misconfigured(f'"{name}" is missing' if value in (None, "") else f'"{name}" must be text')
    return value


def _resolved(value: Any, name: str, environment: Mapping[str, str]) -> Any:
    """Return the value, or for env:NAME the variable's; one that is set but empty counts as not given."""
    if not isinstance(value, str) or not value.startswith(ENVIRONMENT):
        return value
    if _is_absent(value, environment):
        raise Misconfigured(not_set(name, _variable(value)))
    return environment[_variable(value)]


def not_set(name: str, variable: str) -> str:
    """Return what to say of a variable that is missing."""
    return f'"{name}": the environment variable {variable} is not set'


def _absent(table: Mapping[str, Any], names: Iterable[str], environment: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the variables that are not set, by the name of the secret that each was to give."""
    found = {}
    for name in names:
        given = table.get(name, [])
        missing = tuple(_variable(one) for one in (given if isinstance(given, list) else [given]) if _is_absent(one, environment))
        if missing:
            found[name] = missing
    return found


def _variable(value: str) -> str:
    return value.removeprefix(ENVIRONMENT)


def _is_absent(value: Any, environment: Mapping[str, str]) -> bool:
    return isinstance(value, str) and value.startswith(ENVIRONMENT) and _variable(value) not in environment


def _secrets(table: Mapping[str, Any], names: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name in names:
        if _is_absent(table.get(name), environment):
            continue
        value = _resolved(table.get(name, ""), name, environment)
        if not isinstance(value, str):
            raise Misconfigured(f'"{name}" must be text')
        if value:
            found[name] = value
    return found


def _webhook_secrets(table: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[str, ...] | None:
    given = table.get(WEBHOOK_SECRETS)
    if given is None:
        return None
    if not isinstance(given, list) or not all(isinstance(value, str) for value in given):
        raise Misconfigured(f'"{WEBHOOK_SECRETS}" must be a list of texts')
    values = [_resolved(value, WEBHOOK_SECRETS, environment) for value in given if not _is_absent(value, environment)]
    found = tuple(dict.fromkeys(value for value in values if value))
    # Variables that are set but empty give nothing, hence take nothing away either; an empty list does.
    return None if given and not found else found


def _route_table(table: Mapping[str, Any]) -> RouteTable:
    slug = _word(table, "slug")
    _refuse_unknown(table, list(ROUTE_KEYS), "a route")
    fields = _subtable(table, "fields")
    for kind in fields:
        if kind not in rules.MAPPED_KINDS:
            known = list(rules.MAPPED_KINDS)
            raise Misconfigured(f'[route.fields] has an unknown kind "{kind}"{near(kind, known)}: known are {", ".join(known)}')
    if not isinstance(table.get("paused", False), bool):
        raise Misconfigured('"paused" must be true or false')
    return RouteTable(
        slug=slug,
        source=_word(table, "source") if "source" in table else None,
        destination=_word(table, "destination") if "destination" in table else None,
        kinds=table.get("kinds"),
        paused=table.get("paused"),
        options=_subtable(table, "options"),
        statuses=_statuses(table),
        fields={kind: _templates(kind, templates) for kind, templates in fields.items()},
    )


def _subtable(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = table.get(name, {})
    if not isinstance(value, dict):
        raise Misconfigured(f'"{name}" must be a table [route.{name}]')
    return value


def _statuses(table: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for given, status in _subtable(table, "statuses").items():
        state = given.strip().upper()
        if state not in STATES:
            _refuse_misspelt(state)
        if not isinstance(status, str):
            raise Misconfigured(f'[route.statuses] {given} must be text: the name of a status, "" to leave the status alone')
        found[state] = status
    return found


def _refuse_misspelt(state: str) -> None:
    """Take a state that Wave may have added, but not one that is a slip of the pen."""
    try:
        rules.check_state(state)
    except Misconfigured as error:
        raise Misconfigured(f"[route.statuses] {error}") from None
    close = difflib.get_close_matches(state, STATES, n=1, cutoff=0.75)
    if close:
        raise Misconfigured(f'[route.statuses] has an unknown state "{state}" (did you mean "{close[0]}"?): known are {", ".join(STATES)}')


def _templates(kind: str, templates: Any) -> dict[str, str]:
    if not isinstance(templates, dict):
        raise Misconfigured(f"[route.fields.{kind}] must be a table of target fields and templates")
    for target, template in templates.items():
        if not isinstance(template, str):
            raise Misconfigured(f'[route.fields.{kind}] "{target}" must be a template; write a target with a dot in quotes')
        if template:
            _check_template(kind, target, template)
    return templates


def _check_template(kind: str, target: str, template: str) -> None:
    try:
        rules.check_mapping(kind, target, template)
    except Misconfigured as error:
        raise Misconfigured(f"[route.fields] {error}") from None
