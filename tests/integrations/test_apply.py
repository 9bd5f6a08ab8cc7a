"""A file declares connections and routes: applied at once or not at all, twice is once, secrets stay secret."""

import json
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection as database
from pytest_django import Settings

from audit import holds
from audit.models import Hold
from integrations import configuration, disconnect, oauth, registry
from integrations.core.records import STATES
from integrations.declared import InvalidFile, parse
from integrations.models import Binding, Connection, Credential, FieldMapping, Intake, Route, StatusMapping
from tests.integrations import accounts

ENVIRONMENT = {
    "WAVE_CLIENT_ID": "wave-client",
    "WAVE_CLIENT_SECRET": "canary-client-secret",
    "WAVE_ACCESS_TOKEN": "canary-access",
    "WAVE_REFRESH_TOKEN": "canary-refresh",
    "WAVE_WEBHOOK_SECRET": "canary-webhook",
    "ZENDESK_CLIENT_SECRET": "canary-zendesk",
    "JIRA_API_TOKEN": "canary-api-token",
}
WAVE = f"""
[[connection]]
slug = "wave-main"
system = "wave"
auth = "oauth"
business_id = "{accounts.BUSINESS}"
client_id = "env:WAVE_CLIENT_ID"
client_secret = "env:WAVE_CLIENT_SECRET"
access_token = "env:WAVE_ACCESS_TOKEN"
refresh_token = "env:WAVE_REFRESH_TOKEN"
webhook_secrets = ["env:WAVE_WEBHOOK_SECRET"]
"""
ZENDESK = """
[[connection]]
slug = "zendesk-acme"
system = "zendesk"
auth = "client_credentials"
subdomain = "acme"
client_id = "zendesk-client"
client_secret = "env:ZENDESK_CLIENT_SECRET"
"""
JIRA = """
[[connection]]
slug = "jira-acme"
system = "jira"
auth = "api_token"
site = "acme"
email = "ops@example.com"
api_token = "env:JIRA_API_TOKEN"
"""
TO_ZENDESK = """
[[route]]
slug = "wave-to-zendesk"
source = "wave-main"
destination = "zendesk-acme"
kinds = ["customer", "invoice", "payment"]
[route.options]
invoice_storage = "auto"
contacts = true
on_delete = "mark"
"""
TO_JIRA = """
[[route]]
slug = "wave-to-jira"
source = "wave-main"
destination = "jira-acme"
kinds = ["customer", "invoice", "payment"]
[route.options]
project = "BILL"
invoice_issue_type = "Task"
customer_issue_type = "Task"
payments = "worklog"
[route.statuses]
DRAFT = "Backlog"
PAID = "Closed"
"""
EVERYTHING = WAVE + ZENDESK + JIRA + TO_ZENDESK + TO_JIRA

pytestmark = pytest.mark.django_db


def apply(text: str, **changed: str) -> list[dict[str, Any]]:
    return configuration.apply(text, ENVIRONMENT | changed)


def changes(lines: list[dict[str, Any]]) -> list[str]:
    return [line["change"] for line in lines]


def mistakes(text: str, environment: Mapping[str, str] = ENVIRONMENT) -> str:
    before = dump()
    with pytest.raises(InvalidFile) as raised:
        configuration.apply(text, environment)
    assert dump() == before
    assert "canary" not in str(raised.value)
    return str(raised.value)


def dump() -> list[Any]:
    models = (Connection, Credential, Intake, Route, FieldMapping, StatusMapping)
    return [list(model._default_manager.order_by("pk").values()) for model in models]


def connection(slug: str = "wave-main") -> Connection:
    return Connection.objects.get(slug=slug)


# --- Applying --------------------------------------------------------------------------------------------------------


def test_each_object_gives_one_line(settings: Settings) -> None:
    settings.PUBLIC_URL = "https://connector.example.com"
    lines = apply(EVERYTHING)
    address = f"https://connector.example.com/webhooks/wave/{connection().uuid}/"
    assert lines == [
        {"connection": "wave-main", "system": "wave", "change": "created", "webhook_url": address},
        {"connection": "zendesk-acme", "system": "zendesk", "change": "created"},
        {"connection": "jira-acme", "system": "jira", "change": "created"},
        {"route": "wave-to-zendesk", "change": "created"},
        {"route": "wave-to-jira", "change": "created"},
    ]


def test_a_connection_holds_what_the_file_says() -> None:
    apply(EVERYTHING)
    found = connection()
    assert (found.auth, found.settings, found.status) == ("oauth", {"client_id": "wave-client", "business_id": accounts.BUSINESS}, "ready")
    assert oauth.secrets_of(found.credential) == accounts.WAVE_SECRETS
    assert json.loads(found.intake.secrets) == ["canary-webhook"]
    assert sorted(Intake.objects.values_list("connection__system", flat=True)) == ["jira", "wave"]


def test_applying_twice_changes_nothing() -> None:
    apply(EVERYTHING)
    before = dump()
    assert changes(apply(EVERYTHING)) == ["unchanged"] * 5
    assert dump() == before


def test_a_change_is_made_once() -> None:
    apply(EVERYTHING)
    changed = EVERYTHING.replace('"acme"\nemail = "ops@example.com"', '"acme"\nemail = "new@example.com"').replace("Closed", "Resolved")
    assert changes(apply(changed)) == ["unchanged", "unchanged", "updated", "unchanged", "updated"]
    assert changes(apply(changed)) == ["unchanged"] * 5
    assert connection("jira-acme").settings["email"] == "new@example.com"


def test_what_the_file_does_not_name_is_left_alone() -> None:
    apply(EVERYTHING)
    FieldMapping.objects.create(route=Route.objects.get(slug="wave-to-jira"), kind="invoice", target="cf", template="{{ invoice.due }}")
    StatusMapping.objects.filter(route__slug="wave-to-jira", state="SENT").update(status="Waiting")
    before = dump()
    least = '[[route]]\nslug = "wave-to-jira"\n[[connection]]\nslug = "wave-main"\nsystem = "wave"\nauth = "oauth"\n'
    assert changes(apply(least)) == ["unchanged", "unchanged"]
    assert dump() == before


def test_a_new_route_has_the_default_mappings_and_a_status_for_every_state() -> None:
    apply(EVERYTHING)
    for slug, system in (("wave-to-zendesk", "zendesk"), ("wave-to-jira", "jira")):
        defaults = registry.DESTINATIONS[system].system.defaults
        found = FieldMapping.objects.filter(route__slug=slug).order_by("id").values_list("kind", "target", "template")
        assert list(found) == [(row.kind, row.target, row.template) for row in defaults]
    statuses = dict(StatusMapping.objects.filter(route__slug="wave-to-jira").order_by("id").values_list("state", "status"))
    wanted = {state: registry.DESTINATIONS["jira"].system.statuses.get(state, "") for state in STATES}
    assert statuses == wanted | {"DRAFT": "Backlog", "PAID": "Closed"}
    assert not StatusMapping.objects.filter(route__slug="wave-to-zendesk").exists()


def test_field_mappings_are_added_replaced_and_removed() -> None:
    apply(EVERYTHING)
    first = FieldMapping.objects.filter(route__slug="wave-to-jira", kind="invoice").order_by("id")[0]
    FieldMapping.objects.filter(pk=first.pk).update(problem="no such field")
    rest = '[[route]]\nslug = "wave-to-jira"\n[route.fields.invoice]\n'
    replaced = f'{rest}"{first.target}" = "{{{{ invoice.number }}}}!"\n"customfield_1.x" = "{{{{ invoice.due }}}}"\n'
    assert changes(apply(replaced)) == ["updated"]
    assert changes(apply(replaced)) == ["unchanged"]
    first.refresh_from_db()
    added = FieldMapping.objects.get(route__slug="wave-to-jira", target="customfield_1.x")
    assert (first.template, first.problem, added.template) == ("{{ invoice.number }}!", "", "{{ invoice.due }}")
    assert changes(apply(f'{rest}"customfield_1.x" = ""\n')) == ["updated"]
    assert changes(apply(f'{rest}"customfield_1.x" = ""\n')) == ["unchanged"]
    assert not FieldMapping.objects.filter(target="customfield_1.x").exists()


def test_webhook_secrets_are_replaced_by_the_list() -> None:
    apply(WAVE)
    two = WAVE.replace('["env:WAVE_WEBHOOK_SECRET"]', '["new", "env:WAVE_WEBHOOK_SECRET", "new"]')
    assert changes(apply(two)) == ["updated"]
    assert changes(apply(two)) == ["unchanged"]
    assert json.loads(connection().intake.secrets) == ["new", "canary-webhook"]


# --- Secrets ---------------------------------------------------------------------------------------------------------


def refresh(slug: str = "wave-main") -> dict[str, Any]:
    """Store a new pair, as a 401 would."""
    row = connection(slug).credential
    oauth.store(row, oauth.Tokens("canary-new-access", row.changed_at, "canary-new-refresh"))
    return accounts.held(connection(slug))


def test_refreshed_tokens_survive_the_same_file() -> None:
    apply(WAVE)
    held = refresh()
    assert changes(apply(WAVE)) == ["unchanged"]
    assert accounts.held(connection()) == held


def test_only_the_secret_that_differs_is_taken_from_the_file() -> None:
    apply(WAVE)
    refresh()
    assert changes(apply(WAVE, WAVE_CLIENT_SECRET="canary-rotated")) == ["updated"]
    # The access token came with the old client secret; the next call fetches another by the refreshed refresh token.
    secrets = oauth.secrets_of(connection().credential)
    assert secrets == {"client_secret": "canary-rotated", "refresh_token": "canary-new-refresh"}
    assert (connection().status, connection().credential.version) == ("ready", 3)


def test_new_tokens_in_the_file_are_taken() -> None:
    apply(WAVE)
    refresh()
    apply(WAVE, WAVE_ACCESS_TOKEN="canary-a2", WAVE_REFRESH_TOKEN="canary-r2")
    expected = {"client_secret": "canary-client-secret", "access_token": "canary-a2", "refresh_token": "canary-r2"}
    assert oauth.secrets_of(connection().credential) == expected


def test_another_way_in_starts_with_its_own_secrets() -> None:
    apply(WAVE)
    token = '[[connection]]\nslug = "wave-main"\nsystem = "wave"\nauth = "token"\naccess_token = "canary-full"\n'
    assert changes(apply(token)) == ["updated"]
    found = connection()
    assert (found.auth, found.settings, oauth.secrets_of(found.credential)) == ("token", {}, {"access_token": "canary-full"})


@pytest.mark.parametrize(
    ("text", "slug", "status"),
    [
        (WAVE, "wave-main", "ready"),
        (WAVE.replace('access_token = "env:WAVE_ACCESS_TOKEN"\n', ""), "wave-main", "ready"),  # the refresh token gets one
        (WAVE.replace('access_token = "env:WAVE_ACCESS_TOKEN"\nrefresh_token = "env:WAVE_REFRESH_TOKEN"\n', ""), "wave-main", "incomplete"),
        (ZENDESK, "zendesk-acme", "ready"),  # the client gets one
        (ZENDESK.replace('client_secret = "env:ZENDESK_CLIENT_SECRET"\n', ""), "zendesk-acme", "incomplete"),
        (JIRA, "jira-acme", "ready"),
        (JIRA.replace('api_token = "env:JIRA_API_TOKEN"\n', ""), "jira-acme", "incomplete"),
    ],
)
def test_a_connection_is_ready_when_its_way_in_has_what_it_needs(text: str, slug: str, status: str) -> None:
    apply(text)
    assert connection(slug).status == status


def test_a_variable_that_is_set_but_empty_gives_nothing() -> None:
    apply(WAVE, WAVE_ACCESS_TOKEN="", WAVE_REFRESH_TOKEN="", WAVE_WEBHOOK_SECRET="")
    assert (oauth.secrets_of(connection().credential), connection().intake.secrets) == ({"client_secret": "canary-client-secret"}, "[]")


def test_new_secrets_make_a_dead_connection_ready_and_turn_its_jobs_loose() -> None:
    apply(WAVE)
    oauth.mark_disconnected(connection(), "dead")
    holds.block(connection().pk)
    assert changes(apply(WAVE)) == ["unchanged"]
    assert (connection().status, Hold.objects.count()) == ("needs_reconnect", 1)
    assert changes(apply(WAVE, WAVE_REFRESH_TOKEN="canary-r2")) == ["updated"]
    assert (connection().status, connection().status_reason, Hold.objects.count()) == ("ready", "", 0)


def test_the_database_shows_no_secret() -> None:
    apply(EVERYTHING)
    raw = "".join(
        str(bytes(value) if isinstance(value, memoryview) else value)
        for model, name in ((Credential, "secrets"), (Intake, "secrets"))
        for value in stored(model, name)
    )
    assert (len(raw) > 100, "canary" in raw) == (True, False)


def stored(model: Any, name: str) -> list[Any]:
    """Return a column as the database has it, undecrypted."""
    with database.cursor() as cursor:
        cursor.execute(f"SELECT {name} FROM {model._meta.db_table}")  # noqa: S608 - our own names
        return [row[0] for row in cursor.fetchall()]


def test_a_parsed_table_shows_no_secret() -> None:
    assert "canary" not in repr(parse(EVERYTHING, ENVIRONMENT))


# --- Mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = ", "no valid TOML: "),
        ("[[conection]]\nslug = 'a'", 'unknown table "conection" (did you mean "connection"?)'),
        ("[connection]\nslug = 'a'", "[connection] must be written [[connection]]"),
        ("connection = 3", "[connection] must be written [[connection]]"),
        ("[[connection]]\nsystem = 'wave'", '[[connection]] without a slug: "slug" is missing'),
        (WAVE + WAVE, '[[connection]] "wave-main" is there twice'),
        (WAVE.replace('"wave"\n', '"wav"\n'), '[[connection]] "wave-main": unknown system "wav" (did you mean "wave"?)'),
        (WAVE.replace('"oauth"', '"oath"'), '[[connection]] "wave-main": Wave has no auth "oath": use one of oauth, token'),
        (WAVE.replace("business_id", "bussiness_id"), 'unknown key "bussiness_id" (did you mean "business_id"?)'),
        (WAVE.replace('"env:WAVE_CLIENT_SECRET"', "3"), '"client_secret" must be text'),
        (WAVE.replace("env:WAVE_CLIENT_SECRET", "env:NOT_SET"), '"client_secret": the environment variable NOT_SET is not set'),
        (WAVE.replace('["env:WAVE_WEBHOOK_SECRET"]', '"x"'), '"webhook_secrets" must be a list of texts'),
        (WAVE.replace(accounts.BUSINESS, "no-id"), '[[connection]] "wave-main": setting "business_id" is not valid'),
        (WAVE.replace('"wave-main"', '"wave main"'), '[[connection]] "wave main": slug: '),
        (ZENDESK + "webhook_secrets = []", 'unknown key "webhook_secrets"'),
        (ZENDESK.replace('"acme"', '"evil.example/x#"'), '[[connection]] "zendesk-acme": setting "subdomain" is not valid'),
        (ZENDESK.replace('subdomain = "acme"\n', ""), '[[connection]] "zendesk-acme": setting "subdomain" is missing'),
        (TO_ZENDESK, '[[route]] "wave-to-zendesk": source: there is no connection "wave-main"'),
        (EVERYTHING.replace('wave-main"\ndest', 'wave-mian"\ndest'), 'there is no connection "wave-mian" (did you mean "wave-main"?)'),
        (EVERYTHING.replace("kinds", "kind"), '[[route]] "wave-to-zendesk": unknown key "kind" (did you mean "kinds"?)'),
        (EVERYTHING.replace('"customer", "invoice"', '"custmer", "invoice"'), 'kinds: unknown kind "custmer" (did you mean "customer"?)'),
        (EVERYTHING.replace("contacts = true", "contact = true"), 'options: unknown option "contact" (did you mean "contacts"?)'),
        (EVERYTHING.replace("contacts = true", 'contacts = "yes"'), "options: "),
        (EVERYTHING.replace('project = "BILL"\n', ""), '[[route]] "wave-to-jira": options: option "project" is missing'),
        (EVERYTHING.replace('destination = "jira-acme"', 'destination = "wave-main"'), '"wave" cannot be a destination'),
        (EVERYTHING.replace('destination = "jira-acme"\n', ""), '[[route]] "wave-to-jira": "destination" is missing'),
        (EVERYTHING.replace("PAID", "PIAD"), '[route.statuses] has an unknown state "PIAD" (did you mean "PAID"?)'),
        (EVERYTHING.replace("PAID", '"99"'), '[route.statuses] "99" is no invoice state'),
        (EVERYTHING.replace('"Closed"', "1"), "[route.statuses] PAID must be text"),
        (EVERYTHING + "[route.fields.invoce]\n", '[route.fields] has an unknown kind "invoce" (did you mean "invoice"?)'),
        (
            EVERYTHING + '[route.fields.invoice]\na.b = "x"\n',
            '[route.fields.invoice] "a" must be a template; write a target with a dot in quotes',
        ),
        (EVERYTHING + '[route.fields.invoice]\nx = "{{ invoice.nmber }}"\n', "[route.fields] invoice x: "),
        (EVERYTHING + "[[route]]\nslug = 'third'", '[[route]] "third": "source" is missing'),
        (WAVE + ZENDESK + TO_ZENDESK + "[route.statuses]\nPAID = 'x'", "Zendesk has no workflow"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_changed(text: str, says: str) -> None:
    assert says in mistakes(text)
    assert not Connection.objects.exists()


def test_all_mistakes_are_told_at_once() -> None:
    text = EVERYTHING.replace("subdomain", "subdomian").replace("kinds", "kind").replace("email", "mail")
    assert [line.partition(": ")[0] for line in mistakes(text).splitlines()] == [
        '[[connection]] "zendesk-acme"',
        '[[connection]] "jira-acme"',
        '[[route]] "wave-to-zendesk"',
        '[[route]] "wave-to-jira"',
    ]


def test_the_system_of_a_connection_is_fixed() -> None:
    apply(EVERYTHING)
    said = mistakes(ZENDESK.replace("zendesk-acme", "jira-acme"))
    assert said == '[[connection]] "jira-acme": the system of a connection is fixed, and this one is jira: choose another slug'


def test_the_project_of_a_route_is_fixed_once_records_are_bound() -> None:
    apply(EVERYTHING)
    Binding.objects.create(route=Route.objects.get(slug="wave-to-jira"), kind="issue", key="wave:b:invoice:1")
    said = mistakes(EVERYTHING.replace('"BILL"', '"OTHER"'))
    assert said == '[[route]] "wave-to-jira": options: the project is fixed once records are bound: make a new route'


def test_two_routes_to_one_place_are_refused() -> None:
    apply(EVERYTHING)
    said = mistakes(TO_ZENDESK.replace("wave-to-zendesk", "again"))
    assert said == '[[route]] "again": options: route "wave-to-zendesk" already writes there: change that one instead'


def test_a_state_that_wave_may_have_added_is_taken() -> None:
    apply(EVERYTHING.replace("PAID =", "DISPUTED ="))
    assert StatusMapping.objects.get(route__slug="wave-to-jira", state="DISPUTED").status == "Closed"


# --- The command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_one_json_line_per_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "connector.toml"
    file.write_text(EVERYTHING)
    call_command("apply", file)
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line.get("connection") or line.get("route"), line["change"]) for line in printed] == [
        ("wave-main", "created"),
        ("zendesk-acme", "created"),
        ("jira-acme", "created"),
        ("wave-to-zendesk", "created"),
        ("wave-to-jira", "created"),
    ]


def test_the_command_ends_with_2_for_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "connector.toml"
    file.write_text("[[rout]]")
    with pytest.raises(CommandError, match="nothing was changed\nunknown table") as raised:
        call_command("apply", file)
    assert raised.value.returncode == 2


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_ends_with_2(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "connector.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CommandError, match="cannot be read") as raised:
        call_command("apply", file)
    assert raised.value.returncode == 2


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ('site = "acme"', 'site = "other"', "site"),
        ('subdomain = "acme"', 'subdomain = "other"', "subdomain"),
        (accounts.BUSINESS, "00000000-0000-4000-8000-000000000000", "business_id"),
    ],
)
def test_a_place_is_fixed_once_records_are_bound(old: str, new: str, name: str) -> None:
    apply(EVERYTHING)
    for route in Route.objects.all():
        Binding.objects.create(route=route, kind="issue", key="wave:b:invoice:1")
    assert old in EVERYTHING
    assert f'"{name}" is fixed once records are bound: make a new connection' in mistakes(EVERYTHING.replace(old, new))


def test_a_place_may_change_while_nothing_is_bound() -> None:
    apply(EVERYTHING)
    apply(EVERYTHING.replace('site = "acme"', 'site = "other"'))
    assert connection("jira-acme").settings["site"] == "other"


def test_the_other_spelling_of_a_bound_business_is_no_change_of_place() -> None:
    apply(EVERYTHING)
    Binding.objects.create(route=Route.objects.get(slug="wave-to-jira"), kind="issue", key="wave:b:invoice:1")
    node = b64encode(f"Business:{oauth.account(connection()).settings['business_id']}".encode()).decode()
    apply(EVERYTHING.replace(accounts.BUSINESS, node))
    assert connection().settings["business_id"] == node


def test_the_same_file_restores_a_secret_that_disconnecting_took() -> None:
    apply(EVERYTHING)
    disconnect.disconnect(connection("jira-acme"))
    assert connection("jira-acme").status == "incomplete"
    apply(EVERYTHING)
    restored = connection("jira-acme")
    assert (restored.status, oauth.secrets_of(restored.credential)["api_token"]) == ("ready", "canary-api-token")
