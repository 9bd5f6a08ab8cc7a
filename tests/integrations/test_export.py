"""An export says everything but secrets; applied where it was written it changes nothing, elsewhere it makes the same."""

import json
import re
import stat
import tomllib
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from integrations import configuration, export, oauth, pausing
from integrations.declared import InvalidFile
from integrations.models import Connection, Credential, FieldMapping, Intake, Route, StatusMapping
from tests.integrations import accounts
from tests.integrations.test_apply import ENVIRONMENT, EVERYTHING, dump

pytestmark = pytest.mark.django_db
WAVE_WITHOUT_TOKENS = {"WAVE_MAIN_CLIENT_SECRET": "canary-client-secret", "WAVE_MAIN_WEBHOOK_SECRET_1": "canary-webhook"}
VARIABLES = WAVE_WITHOUT_TOKENS | {"ZENDESK_ACME_CLIENT_SECRET": "canary-zendesk", "JIRA_ACME_API_TOKEN": "canary-api-token"}


@pytest.fixture
def configured() -> None:
    """Configure three accounts and two routes, then change what a person would in the browser."""
    configuration.apply(EVERYTHING, ENVIRONMENT)
    jira = Route.objects.get(slug="wave-to-jira")
    StatusMapping.objects.filter(route=jira, state="SENT").update(status='Waiting "here"')
    StatusMapping.objects.filter(route=jira, state="OVERDUE").delete()
    StatusMapping.objects.create(route=jira, state="UNHEARD_OF", status="")
    StatusMapping.objects.filter(route=jira, state="PAID").update(via="Review")
    FieldMapping.objects.filter(route=jira).order_by("id").first().delete()  # type: ignore[union-attr]
    odd = 'a "quote", a \\ and\n\ttwo lines \x7f\U0001f600 {{ invoice.number }}'
    FieldMapping.objects.create(route=jira, kind="invoice", target="customfield_1.x y", template=odd)
    pausing.pause(jira)


def changes(lines: list[dict[str, Any]]) -> set[str]:
    return {line["change"] for line in lines}


def written() -> list[Any]:
    """Return what the file is about, without ids and times."""
    routes = [
        (
            *(route.slug, route.source.slug, route.destination.slug, route.kinds, route.options, route.paused_at is None),
            sorted(route.field_mappings.values_list("kind", "target", "template")),
            sorted(route.status_mappings.exclude(status="").values_list("state", "status")),
        )
        for route in Route.objects.select_related("source", "destination").order_by("slug")
    ]
    return [list(Connection.objects.order_by("slug").values_list("slug", "system", "auth", "settings")), routes]


@pytest.mark.usefixtures("configured")
def test_applying_an_export_changes_nothing() -> None:
    before = dump()
    lines = configuration.apply(export.text(), {})
    assert (len(lines), changes(lines)) == (5, {"unchanged"})
    assert dump() == before
    assert changes(configuration.apply(export.text(), {}, prune=True)) == {"unchanged"}
    assert dump() == before


@pytest.mark.usefixtures("configured")
def test_an_export_makes_the_same_elsewhere() -> None:
    text, before = export.text(), written()
    for model in (Route, Intake, Connection, Credential):
        model.objects.all().delete()
    with pytest.raises(InvalidFile) as raised:
        configuration.apply(text, {})
    missing = sorted(set(re.findall(r"the environment variable (\w+) is not set", str(raised.value))))
    assert missing == ["JIRA_ACME_API_TOKEN", "WAVE_MAIN_CLIENT_SECRET", "ZENDESK_ACME_CLIENT_SECRET"]
    configuration.apply(text, VARIABLES)
    assert written() == before
    assert json.loads(Connection.objects.get(slug="wave-main").intake.secrets) == ["canary-webhook"]
    assert dict(Connection.objects.values_list("slug", "status")) == {
        "wave-main": "incomplete",  # its tokens come with the Connect button
        "zendesk-acme": "ready",
        "jira-acme": "ready",
    }
    assert export.text() == text.replace('# In the browser: the way to "Closed" (PAID) passes through "Review"\n', "")


@pytest.mark.usefixtures("configured")
def test_an_export_holds_no_secret_and_lists_the_variables() -> None:
    text = export.text()
    assert "canary" not in text
    assert [line[4:] for line in text.splitlines() if line.startswith("#   ")] == [
        "JIRA_ACME_API_TOKEN",
        "WAVE_MAIN_CLIENT_SECRET",
        "WAVE_MAIN_WEBHOOK_SECRET_1",
        "ZENDESK_ACME_CLIENT_SECRET",
    ]


@pytest.mark.usefixtures("configured")
def test_only_what_differs_from_the_defaults_is_written() -> None:
    given = tomllib.loads(export.text())
    assert [row["slug"] for row in given["connection"]] == ["jira-acme", "wave-main", "zendesk-acme"]
    zendesk = next(row for row in given["route"] if row["slug"] == "wave-to-zendesk")
    assert zendesk == {
        "slug": "wave-to-zendesk",
        "source": "wave-main",
        "destination": "zendesk-acme",
        "kinds": ["customer", "invoice", "payment"],
        "paused": False,
        "options": Route.objects.get(slug="wave-to-zendesk").options,
    }
    jira = next(row for row in given["route"] if row["slug"] == "wave-to-jira")
    assert jira["paused"] is True
    assert jira["statuses"] == {"DRAFT": "Backlog", "PAID": "Closed", "SENT": 'Waiting "here"', "OVERDUE": ""}


def test_a_full_access_token_is_a_secret_of_the_file() -> None:
    accounts.connection("2nd-wave", "wave", "token", {}, {"access_token": "canary-access"})
    assert 'access_token = "env:_2ND_WAVE_ACCESS_TOKEN"' in export.text()


def test_accounts_whose_names_look_alike_have_variables_of_their_own() -> None:
    for slug in ("jira-a", "jira_a", "jira_A"):
        accounts.connection(slug, "jira", "api_token", {"site": "a", "email": "o@example.com"}, {"api_token": "canary-api-token"})
    assert sorted(re.findall(r"env:(\w+)", export.text())) == ["JIRA_A_API_TOKEN", "JIRA_A_API_TOKEN_", "JIRA_A_API_TOKEN__"]


def test_an_empty_database_gives_a_file_that_says_nothing() -> None:
    assert (tomllib.loads(export.text()), configuration.apply(export.text(), {})) == ({}, [])


@pytest.mark.usefixtures("configured")
def test_the_command_writes_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    target = tmp_path / "connector.toml"
    target.touch(mode=0o644)
    call_command("export", output=target)
    out = StringIO()
    call_command("export", stdout=out)
    assert (target.read_text(), stat.S_IMODE(target.stat().st_mode)) == (out.getvalue(), 0o600)
    assert out.getvalue() == export.text()


# --- Variables that are not set --------------------------------------------------------------------------------------


def refused(environment: dict[str, str], text: str = EVERYTHING) -> str:
    before = dump()
    with pytest.raises(InvalidFile) as raised:
        configuration.apply(text, environment)
    assert dump() == before
    return str(raised.value)


def without(*names: str) -> dict[str, str]:
    return {name: value for name, value in ENVIRONMENT.items() if name not in names}


def test_a_secret_whose_variable_is_not_set_stays() -> None:
    configuration.apply(EVERYTHING, ENVIRONMENT)
    held = oauth.secrets_of(Connection.objects.get(slug="wave-main").credential)
    lines = configuration.apply(EVERYTHING, {"WAVE_CLIENT_ID": "wave-client"})
    assert changes(lines) == {"unchanged"}
    lines = configuration.apply(EVERYTHING, {"WAVE_CLIENT_ID": "wave-client", "WAVE_CLIENT_SECRET": "canary-rotated"})
    assert [line["change"] for line in lines] == ["updated", *["unchanged"] * 4]
    found = oauth.secrets_of(Connection.objects.get(slug="wave-main").credential)
    assert found == {"client_secret": "canary-rotated", "refresh_token": held["refresh_token"]}


def test_a_variable_that_is_not_set_is_refused_where_nothing_is_stored() -> None:
    configuration.apply(EVERYTHING.replace('access_token = "env:WAVE_ACCESS_TOKEN"\n', ""), ENVIRONMENT)
    assert '"access_token": the environment variable WAVE_ACCESS_TOKEN is not set' in refused(without("WAVE_ACCESS_TOKEN"))


def test_settings_and_secrets_of_another_way_in_are_not_kept() -> None:
    configuration.apply(EVERYTHING, ENVIRONMENT)
    assert '"client_id": the environment variable WAVE_CLIENT_ID is not set' in refused(without("WAVE_CLIENT_ID"))
    token = '[[connection]]\nslug = "wave-main"\nsystem = "wave"\nauth = "token"\naccess_token = "env:NOT_SET"\n'
    assert '"access_token": the environment variable NOT_SET is not set' in refused({}, token)


@pytest.mark.parametrize(
    ("listed", "kept"), [('["env:A"]', True), ('["env:A", "env:B"]', False), ('["env:A", "new"]', False), ('["env:A", "env:SET"]', False)]
)
def test_webhook_secrets_stay_only_where_the_whole_list_is_not_set(listed: str, kept: bool) -> None:
    configuration.apply(EVERYTHING, ENVIRONMENT)
    text = EVERYTHING.replace('["env:WAVE_WEBHOOK_SECRET"]', listed)
    if kept:
        assert changes(configuration.apply(text, ENVIRONMENT)) == {"unchanged"}
    else:
        assert '"webhook_secrets": the environment variable A is not set' in refused(ENVIRONMENT | {"SET": "x" * 12}, text)
    assert json.loads(Connection.objects.get(slug="wave-main").intake.secrets) == ["canary-webhook"]


# --- Pausing and pruning ---------------------------------------------------------------------------------------------


def state(slug: str) -> tuple[bool, str]:
    route = Route.objects.get(slug=slug)
    return route.paused_at is not None, pausing.reason(route)


def test_a_route_is_paused_and_resumed_by_the_file() -> None:
    configuration.apply(EVERYTHING, ENVIRONMENT)
    paused = '[[route]]\nslug = "wave-to-jira"\npaused = true\n'
    assert changes(configuration.apply(paused, {})) == {"updated"}
    assert (changes(configuration.apply(paused, {})), state("wave-to-jira")) == ({"unchanged"}, (True, "paused"))
    assert changes(configuration.apply(EVERYTHING, ENVIRONMENT)) == {"unchanged"}, "what the file does not say is left alone"
    assert changes(configuration.apply(paused.replace("true", "false"), {})) == {"updated"}
    assert state("wave-to-jira") == (False, "")
    assert '"paused" must be true or false' in refused({}, paused.replace("true", '"yes"'))


def test_prune_pauses_or_marks_what_the_file_does_not_name_and_deletes_nothing() -> None:
    configuration.apply(EVERYTHING, ENVIRONMENT)
    jira = EVERYTHING.index('\n[[route]]\nslug = "wave-to-jira"')
    rest = EVERYTHING[:jira].replace(EVERYTHING[EVERYTHING.index('[[connection]]\nslug = "jira-acme"') : EVERYTHING.index("[[route]]")], "")
    counted = [model._default_manager.count() for model in (Connection, Credential, Route, FieldMapping, StatusMapping)]
    says = "the configuration file does not name it"
    named = configuration.apply(rest, ENVIRONMENT)
    assert configuration.apply(rest, ENVIRONMENT, prune=True)[len(named) :] == [
        {"connection": "jira-acme", "system": "jira", "change": "marked", "reason": says},
        {"route": "wave-to-jira", "change": "disabled", "reason": says},
    ]
    assert changes(configuration.apply(rest, ENVIRONMENT, prune=True)) == {"unchanged"}
    assert (state("wave-to-jira"), state("wave-to-zendesk")) == ((True, "not_in_file"), (False, ""))
    found = Connection.objects.get(slug="jira-acme")
    assert (found.status, found.status_reason) == ("ready", says)
    assert [model._default_manager.count() for model in (Connection, Credential, Route, FieldMapping, StatusMapping)] == counted
    lines = configuration.apply(EVERYTHING, ENVIRONMENT)
    assert [line["change"] for line in lines] == ["unchanged", "unchanged", "updated", "unchanged", "updated"]
    assert (state("wave-to-jira"), Connection.objects.get(slug="jira-acme").status_reason) == ((False, ""), "")


def test_prune_leaves_a_pause_of_a_person_a_person_s() -> None:
    configuration.apply(EVERYTHING, ENVIRONMENT)
    pausing.pause(Route.objects.get(slug="wave-to-jira"))
    configuration.apply("", {}, prune=True)
    configuration.apply(EVERYTHING, ENVIRONMENT)
    assert (state("wave-to-jira"), state("wave-to-zendesk")) == ((True, "paused"), (False, ""))


def test_an_account_that_a_named_route_uses_is_named() -> None:
    configuration.apply(EVERYTHING, ENVIRONMENT)
    lines = configuration.apply('[[route]]\nslug = "wave-to-jira"\n', {}, prune=True)
    assert [line.get("connection") or line.get("route") for line in lines] == ["wave-to-jira", "zendesk-acme", "wave-to-zendesk"]


def test_the_command_prunes(tmp_path: Path) -> None:
    configuration.apply(EVERYTHING, ENVIRONMENT)
    empty, out = tmp_path / "connector.toml", StringIO()
    empty.touch()
    call_command("apply", empty, prune=True, stdout=out)
    assert [json.loads(line)["change"] for line in out.getvalue().splitlines()] == ["marked"] * 3 + ["disabled"] * 2
