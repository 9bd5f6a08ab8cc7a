"""Settings and registry lines that cannot work are refused, each with an id and with what to do."""

import dataclasses
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from pytest_django import Settings

from integrations import checks, registry
from integrations.core.ports import AuthKind, FieldDefault, Setting, System

FERNET = "zzP9x0lqOS1p3ZQJ9Yf4A4oJ9hY2n3dX8eYt7Uu5y5g="
GOOD_SECRET = "Yc7hT2mWq9Lx4Vb8Rz1Kp6Jd3Ns5Gf0QaUe-Oi_XwEtBvHy"


def ids(found: list[CheckMessage]) -> list[str | None]:
    assert all(message.hint for message in found)
    return [message.id for message in found]


def ours() -> list[str | None]:
    return ids([message for message in run_checks() if str(message.id).startswith("integrations.")])


@pytest.fixture(autouse=True)
def sound(settings: Settings) -> None:
    settings.SECRET_KEY, settings.FERNET_KEYS = GOOD_SECRET, [FERNET]


def test_sound_settings_pass() -> None:
    assert ours() == []


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("SECRET_KEY", "missing", "E001"),
        ("SECRET_KEY", GOOD_SECRET[:39], "E001"),
        ("SECRET_KEY", "abcdefghijk" * 5, "E001"),
        ("FERNET_KEYS", [], "E002"),
        ("FERNET_KEYS", [""], "E002"),
        ("FERNET_KEYS", [FERNET, ""], "E002"),
        ("FERNET_KEYS", ["no Fernet key"], "E002"),
        ("FERNET_KEYS", [FERNET, "no Fernet key"], "E002"),
        ("FERNET_KEYS", [GOOD_SECRET], "E002"),
        ("HTTP_TIMEOUT", 0, "E003"),
        ("HTTP_TIMEOUT", 40, "E003"),
        ("JOB_BUDGET", 60, "E003"),
        ("Q_CLUSTER", {"timeout": 120}, "E003"),
        ("JOB_LEASE", 60, "E003"),
        ("WEBHOOK_ACK", "eventually", "E004"),
        ("WAVE_GRAPHQL_URL", "http://gql.waveapps.com/", "E005"),
        ("WAVE_OAUTH_URL", "", "E005"),
        ("ZENDESK_URL", "http://{subdomain}.zendesk.com", "E005"),
        ("JIRA_API_URL", "http://api.atlassian.com/ex/jira/{cloud_id}", "E005"),
        ("JIRA_SITE_URL", "http://{site}.atlassian.net", "E005"),
        ("ATLASSIAN_AUTH_URL", "http://localhost.evil.example", "E005"),
        ("ATLASSIAN_API_URL", "ftp://127.0.0.1", "E005"),
        ("BUSINESS_TIME_ZONE", "Europe/Atlantis", "E006"),
        ("BUSINESS_TIME_ZONE", "", "E006"),
        ("BUSINESS_TIME_ZONE", "../etc/passwd", "E006"),
        ("PUBLIC_URL", "connector.example.com", "E007"),
        ("PUBLIC_URL", "https://", "E007"),
        ("PUBLIC_URL", "https://me:pw@connector.example.com", "E007"),
        ("PUBLIC_URL", "https://connector.example.com/?x", "E007"),
    ],
)
def test_each_bad_setting_is_refused_by_name(settings: Settings, name: str, value: Any, code: str) -> None:
    setattr(settings, name, value)
    found = [message for message in run_checks() if str(message.id).startswith("integrations.")]
    assert ids(found) == [f"integrations.{code}"]
    assert name in found[0].msg or name == "Q_CLUSTER"


@pytest.mark.parametrize("url", ["http://127.0.0.1:8001/graphql", "http://localhost:8001", "https://stand-in.example/"])
def test_a_stand_in_on_this_machine_is_fine(settings: Settings, url: str) -> None:
    settings.WAVE_GRAPHQL_URL = url
    assert ours() == []


def test_no_message_shows_a_key(settings: Settings) -> None:
    settings.SECRET_KEY, settings.FERNET_KEYS = "canary-short", ["canary-fernet"]
    shown = [f"{message.msg} {message.hint}" for message in [*checks.secret_key(None), *checks.fernet_keys(None)]]
    assert (len(shown), [text for text in shown if "canary" in text]) == (2, [])


# --- Registry --------------------------------------------------------------------------------------------------------


def line(**changes: Any) -> System:
    auth = AuthKind("token", settings=(Setting("site"),), secrets=("api_token",))
    return dataclasses.replace(System("hubspot", "HubSpot", "destination", (auth,)), **changes)


def problems(monkeypatch: pytest.MonkeyPatch, system: System, name: str = "hubspot") -> list[str]:
    monkeypatch.setitem(registry.DESTINATIONS, name, dataclasses.replace(registry.DESTINATIONS["zendesk"], system=system))
    found = checks.registry_lines(None)
    assert set(ids(found)) <= {"integrations.E008"}
    return [message.msg.removeprefix("The registry: ") for message in found]


def test_a_sound_line_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = (FieldDefault("customer", "name", "{{ customer.name }}"),)
    assert problems(monkeypatch, line(defaults=defaults, statuses={"PAID": "Done"})) == []


TWICE = AuthKind("token", settings=(Setting("site"),), secrets=("site",))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": "hubspo"}, 'DESTINATIONS["hubspot"] calls itself "hubspo".'),
        ({"role": "source"}, 'DESTINATIONS["hubspot"] has the role "source".'),
        ({"auths": ()}, "hubspot: there is no way in."),
        ({"auths": (AuthKind("token"), AuthKind("token"))}, 'hubspot: way in "token" is there twice.'),
        ({"auths": (TWICE,)}, 'hubspot: token: "site" is there twice.'),
        ({"auths": (AuthKind("token", secrets=("slug",)),)}, 'hubspot: token: "slug" means something else in the configuration file.'),
        ({"options": (Setting("a"), Setting("a"))}, 'hubspot: option "a" is there twice.'),
        ({"defaults": (FieldDefault("ticket", "x", "y"),)}, 'hubspot: default mapping of "x": unknown kind "ticket".'),
        ({"defaults": (FieldDefault("customer", "x", "y"),) * 2}, 'hubspot: default mapping "customer x" is there twice.'),
        ({"statuses": {"paid": "Done"}}, 'hubspot: "paid" is no invoice state: a word in capitals, e.g. PAID.'),
    ],
)
def test_each_bad_registry_line_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], problem: str) -> None:
    assert problems(monkeypatch, line(**changes)) == [problem]


def test_a_default_whose_template_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = problems(monkeypatch, line(defaults=(FieldDefault("customer", "name", "{{ customer.nam }}"),)))
    assert len(found) == 1
    assert found[0].startswith("hubspot: customer name: ")


def test_a_name_that_cannot_be_in_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = problems(monkeypatch, line(name="Hub-Spot"), name="Hub-Spot")
    assert found == ['"Hub-Spot" must be lower case letters, digits and _, 2 to 32 of them.']


def test_a_system_is_a_source_or_a_destination(monkeypatch: pytest.MonkeyPatch) -> None:
    found = problems(monkeypatch, line(name="wave"), name="wave")
    assert found == ["wave is both in SOURCES and in DESTINATIONS."]
