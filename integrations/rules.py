"""What a person may configure, checked against the registry; every refusal says what to do."""

import re
from collections.abc import Mapping
from typing import Any

from integrations import registry
from integrations.core import mapping
from integrations.core.errors import Misconfigured
from integrations.core.mapping import near
from integrations.core.ports import AuthKind, Setting
from integrations.core.records import KINDS

MAPPED_KINDS = ("customer", "contact", "invoice", "payment")


def checked_kinds(kinds: Any) -> list[str]:
    """Return the kinds in their own order; refuse anything else."""
    if not isinstance(kinds, list) or not kinds or not all(isinstance(kind, str) for kind in kinds):
        raise Misconfigured(f"kinds must be a list of some of {', '.join(KINDS)}")
    for kind in kinds:
        if kind not in KINDS:
            raise Misconfigured(f'unknown kind "{kind}"{near(kind, KINDS)}: known are {", ".join(KINDS)}')
    if "payment" in kinds and "invoice" not in kinds:
        raise Misconfigured('"payment" needs "invoice": payments are shown with their invoice')
    return [kind for kind in KINDS if kind in kinds]


def checked_options(system: str, options: Any) -> dict[str, Any]:
    """Return a route's options with the defaults of its destination filled in."""
    if not isinstance(options, dict):
        raise Misconfigured("options must be an object of names and values")
    return _checked(registry.entry(system).system.options, options, "option")


def checked_settings(system: str, auth: str, settings: Any) -> dict[str, Any]:
    """Return a connection's settings; refuse what its way in does not take or lacks."""
    return _checked(auth_kind(system, auth).settings, settings, "setting")


def auth_kind(system: str, auth: str) -> AuthKind:
    """Return the named way into a system."""
    known = registry.entry(system).system
    found = known.auth(auth)
    if found is None:
        raise Misconfigured(f'{known.label} has no auth "{auth}": use one of {", ".join(kind.name for kind in known.auths)}')
    return found


def _checked(known: tuple[Setting, ...], given: Mapping[str, Any], what: str) -> dict[str, Any]:
    names = [setting.name for setting in known]
    for name in given:
        if name not in names:
            raise Misconfigured(f'unknown {what} "{name}"{near(name, names)}: known are {", ".join(names) or "none"}')
    found = {}
    for setting in known:
        value = given.get(setting.name, setting.default)
        if value in (None, ""):
            if setting.required:
                raise Misconfigured(f'{what} "{setting.name}" is missing. {setting.advice}'.strip())
            continue
        found[setting.name] = _checked_value(setting, value, what)
    return found


def _checked_value(setting: Setting, value: Any, what: str) -> Any:
    if not isinstance(value, setting.of):
        raise Misconfigured(f'{what} "{setting.name}" must be {"true or false" if setting.of is bool else "text"}, not {value!r}')
    if setting.choices and value not in setting.choices:
        raise Misconfigured(f'{what} "{setting.name}" must be one of {", ".join(setting.choices)}, not {value!r}')
    if setting.pattern and not re.fullmatch(setting.pattern, str(value), re.ASCII):
        raise Misconfigured(f'{what} "{setting.name}" is not valid: {value!r}. {setting.advice}'.strip())
    return value


def check_ends(source: str, destination: str) -> None:
    """Refuse a route that does not lead from a source to a destination."""
    if source not in registry.SOURCES:
        raise Misconfigured(f'"{source}" cannot be a source: known are {", ".join(registry.SOURCES)}')
    if destination not in registry.DESTINATIONS:
        raise Misconfigured(f'"{destination}" cannot be a destination: known are {", ".join(registry.DESTINATIONS)}')


def check_mapping(kind: str, target: str, template: str) -> None:
    """Refuse a template with a mistake; the message names the row."""
    try:
        mapping.check(kind, template)
    except Misconfigured as error:
        raise Misconfigured(f"{kind} {target}: {error}") from error


def check_state(state: str) -> None:
    """Refuse a state that could not be one of Wave's: any word in capitals may become one."""
    if not re.fullmatch(r"[A-Z][A-Z_]{1,31}", state):
        raise Misconfigured(f'"{state}" is no invoice state: a word in capitals, e.g. PAID')
