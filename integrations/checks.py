"""System checks: settings and registry lines that cannot work are refused by every manage.py command."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from cryptography.fernet import Fernet
from django.apps.config import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from integrations import outgoing, registry, rules
from integrations.core.errors import Misconfigured
from integrations.core.ports import AuthKind, System

Apps = Sequence[AppConfig] | None
SECRET_LEAST, DISTINCT_LEAST = 40, 12
GENERATE_SECRET = "python -c 'import secrets; print(secrets.token_urlsafe(50))'"  # noqa: S105 - a command, no secret
GENERATE_FERNET = "python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
WEBHOOK_ACKS = ("processed", "stored")
# Keys of a [[connection]] in the configuration file that belong to no system.
RESERVED = ("slug", "system", "auth", "webhook_secrets")


def register_all() -> None:
    """Register every check of this module."""
    for check in (secret_key, fernet_keys, time_limits, webhook_ack, vendor_urls, time_zone, public_url, registry_lines):
        register(check)


def secret_key(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Refuse a SECRET_KEY that is missing or guessable."""
    key = settings.SECRET_KEY
    if key != "missing" and len(key) >= SECRET_LEAST and len(set(key)) >= DISTINCT_LEAST:
        return []
    problem = "is missing" if key == "missing" else "is too short or too plain"
    hint = f"Set it in the environment or .env to the output of: {GENERATE_SECRET}"
    return [Error(f"SECRET_KEY {problem}.", hint=hint, id="integrations.E001")]


def fernet_keys(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Refuse keys that do not encrypt, or that are the secret key again. The message shows none of them."""
    problem = _fernet_problem(list(settings.FERNET_KEYS))
    if not problem:
        return []
    hint = f"Set it to the output of: {GENERATE_FERNET}. Several are separated by commas: the first encrypts, all decrypt."
    return [Error(f"FERNET_KEYS {problem}.", hint=hint, id="integrations.E002")]


def _fernet_problem(keys: list[str]) -> str:
    if not keys or not all(keys):
        return "is not set, or one of them is empty"
    if settings.SECRET_KEY in keys:
        return "must not be SECRET_KEY: whoever reads one must not have the other"
    if not all(_is_fernet(key) for key in keys):
        return "holds something that is no Fernet key"
    return ""


def _is_fernet(key: str) -> bool:
    try:
        Fernet(key)
    except ValueError:
        return False
    return True


def time_limits(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Refuse limits out of order: a call must end before its run, a run before its task is killed, that before its lease ends."""
    limits = {
        "HTTP_TIMEOUT": settings.HTTP_TIMEOUT,
        "JOB_BUDGET": settings.JOB_BUDGET,
        "the time-out in Q_CLUSTER": settings.Q_CLUSTER["timeout"],
        "JOB_LEASE": settings.JOB_LEASE,
    }
    values = list(limits.values())
    if values[0] > 0 and all(less < more for less, more in pairwise(values)):
        return []
    given = " < ".join(f"{name} ({value:g} s)" for name, value in limits.items())
    return [Error(f"These times must rise: {given}.", hint="Change the one that is out of order.", id="integrations.E003")]


def webhook_ack(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Refuse an unknown way of answering the source."""
    if settings.WEBHOOK_ACK in WEBHOOK_ACKS:
        return []
    return [Error(f'WEBHOOK_ACK is "{settings.WEBHOOK_ACK}".', hint=f"Use one of {', '.join(WEBHOOK_ACKS)}.", id="integrations.E004")]


def vendor_urls(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Refuse vendor addresses that would send credentials over an open wire."""
    errors: list[CheckMessage] = []
    for name, url in outgoing.vendor_urls().items():
        try:
            outgoing.checked_url(url)
        except Misconfigured:
            hint = "Use https; plain http only for a stand-in on this machine (127.0.0.1, localhost)."
            errors.append(Error(f'{name} is "{url}".', hint=hint, id="integrations.E005"))
    return errors


def time_zone(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Refuse a time zone that the system does not know."""
    try:
        ZoneInfo(settings.BUSINESS_TIME_ZONE)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        hint = "Use an IANA name such as Europe/Berlin or America/Toronto."
        return [Error(f'BUSINESS_TIME_ZONE is "{settings.BUSINESS_TIME_ZONE}".', hint=hint, id="integrations.E006")]
    return []


def public_url(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Refuse a public address that vendors could not be told."""
    try:
        parts = urlsplit(settings.PUBLIC_URL)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment or "@" in parts.netloc)
    except ValueError:
        fine = False
    if fine:
        return []
    hint = "Set where browsers and vendors reach this server, e.g. https://connector.example.com"
    return [Error(f'PUBLIC_URL is "{settings.PUBLIC_URL}".', hint=hint, id="integrations.E007")]


# --- Registry ------------------------------------------------------------------------------------------------------


def registry_lines(app_configs: Apps, **kwargs: Any) -> list[CheckMessage]:
    """Refuse a registry line that would fail later, with the system's name."""
    problems = [
        *(f"{name} is both in SOURCES and in DESTINATIONS" for name in registry.SOURCES if name in registry.DESTINATIONS),
        *_problems_of("SOURCES", "source", {name: line.system for name, line in registry.SOURCES.items()}),
        *_problems_of("DESTINATIONS", "destination", {name: line.system for name, line in registry.DESTINATIONS.items()}),
    ]
    hint = "Correct the line in integrations/registry.py, or the SYSTEM it names."
    return [Error(f"The registry: {problem}.", hint=hint, id="integrations.E008") for problem in problems]


def _problems_of(table: str, role: str, systems: dict[str, System]) -> Iterator[str]:
    for name, system in systems.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]{1,31}", name):
            yield f'"{name}" must be lower case letters, digits and _, 2 to 32 of them'
        if system.name != name:
            yield f'{table}["{name}"] calls itself "{system.name}"'
        if system.role != role:
            yield f'{table}["{name}"] has the role "{system.role}"'
        yield from (f"{name}: {problem}" for problem in _system_problems(system))


def _system_problems(system: System) -> Iterator[str]:
    if not system.auths:
        yield "there is no way in"
    yield from _twice("way in", [auth.name for auth in system.auths])
    for auth in system.auths:
        yield from _twice(f"{auth.name}:", _names(auth))
        yield from (f'{auth.name}: "{name}" means something else in the configuration file' for name in _names(auth) if name in RESERVED)
    yield from _twice("option", [option.name for option in system.options])
    yield from _twice("default mapping", [f"{row.kind} {row.target}" for row in system.defaults])
    yield from _mapping_problems(system)


def _names(auth: AuthKind) -> list[str]:
    return [*(setting.name for setting in auth.settings), *auth.secrets, *auth.optional_secrets]


def _twice(what: str, names: list[str]) -> Iterator[str]:
    yield from (f'{what} "{name}" is there twice' for name in dict.fromkeys(names) if names.count(name) > 1)


def _mapping_problems(system: System) -> Iterator[str]:
    for row in system.defaults:
        if row.kind not in rules.MAPPED_KINDS:
            yield f'default mapping of "{row.target}": unknown kind "{row.kind}"'
        else:
            yield from _refused(rules.check_mapping, row.kind, row.target, row.template)
    for state in system.statuses:
        yield from _refused(rules.check_state, state)


def _refused(check: Callable[..., None], *given: str) -> Iterator[str]:
    try:
        check(*given)
    except Misconfigured as error:
        yield str(error)
