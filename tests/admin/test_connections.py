"""The browser's pages for connections: what is asked, what is stored, and that no secret ever comes out."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.views.debug import SafeExceptionReporterFilter

from integrations import oauth, systems
from integrations.core.ports import Check
from integrations.models import Binding, Connection, Credential, Intake, Route
from integrations.models.secrets import WrongKeyError
from tests.admin.people import signed_in

pytestmark = pytest.mark.django_db
LIST = "/admin/integrations/connection/"
ADD = LIST + "add/"
CANARY = "canary-7f3a"
JIRA = {"slug": "jira-acme", "setting_site": "acme", "setting_email": "ops@example.com", "secret_api_token": CANARY}


@pytest.fixture
def wave_main(wave_connection: Callable[..., Connection]) -> Connection:
    return wave_connection()


def page(name: str, connection: Connection) -> str:
    return reverse(f"admin:integrations_connection_{name}", args=[connection.pk])


def secrets_of(connection: Connection) -> Any:
    return json.loads(Credential.objects.get(connections=connection).secrets)


def webhook_secrets_of(connection: Connection) -> Any:
    return json.loads(Intake.objects.get(connection=connection).secrets)


def errors_of(answer: Any) -> dict[str, list[str]]:
    return dict(answer.context["adminform"].form.errors)


# --- Adding --------------------------------------------------------------------------------------------------------


def test_adding_asks_for_system_and_way_in_first() -> None:
    html = signed_in("Administrator").get(ADD).content.decode()
    ways = ("system=wave&amp;auth=oauth", "system=zendesk&amp;auth=client_credentials", "system=jira&amp;auth=api_token")
    assert [way for way in ways if way not in html] == []


def test_a_complete_account_is_ready_once_it_is_added() -> None:
    signed_in("Administrator").post(ADD + "?system=jira&auth=api_token", JIRA)
    connection = Connection.objects.get()
    assert (connection.slug, connection.system, connection.auth, connection.status) == ("jira-acme", "jira", "api_token", "ready")
    assert connection.settings == {"site": "acme", "email": "ops@example.com"}
    assert secrets_of(connection) == {"api_token": CANARY}


def test_a_source_is_added_with_its_webhook() -> None:
    data = {"slug": "wave-main", "secret_access_token": CANARY, "webhook_secrets": " one \n\ntwo\none\n"}
    client = signed_in("Administrator")
    client.post(ADD + "?system=wave&auth=token", data)
    connection = Connection.objects.get()
    assert webhook_secrets_of(connection) == ["one", "two"]
    assert f"/webhooks/wave/{connection.uuid}/" in client.get(LIST).content.decode()


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        ({"setting_site": "acme.atlassian.net/x"}, ["setting_site"]),
        ({"setting_email": ""}, ["setting_email"]),
        ({"secret_api_token": ""}, ["secret_api_token"]),
        ({"slug": ""}, ["slug"]),
    ],
)
def test_a_mistake_is_told_beside_its_field_and_nothing_is_stored(change: dict[str, str], errors: list[str]) -> None:
    answer = signed_in("Administrator").post(ADD + "?system=jira&auth=api_token", {**JIRA, **change})
    assert (list(errors_of(answer)), Connection.objects.count(), Credential.objects.count()) == (errors, 0, 0)
    assert CANARY not in answer.content.decode()


def test_without_the_permission_to_connect_no_secret_is_asked_for_or_taken(wave_main: Connection) -> None:
    client = signed_in("Viewer")
    assert (client.get(ADD).status_code, client.post(page("change", wave_main), {"secret_access_token": CANARY}).status_code) == (403, 403)
    assert secrets_of(wave_main) == {"access_token": "wave-token"}


# --- Changing ------------------------------------------------------------------------------------------------------


def test_secrets_left_empty_stay_and_slug_and_system_cannot_change(wave_main: Connection) -> None:
    data = {"slug": "forged", "system": "jira", "setting_business_id": "", "secret_access_token": "", "webhook_secrets": ""}
    signed_in("Administrator").post(page("change", wave_main), data)
    after = Connection.objects.get()
    assert (after.slug, after.system, after.settings, after.status) == ("wave-main", "wave", {}, "ready")
    assert (secrets_of(after), webhook_secrets_of(after)) == (secrets_of(wave_main), webhook_secrets_of(wave_main))
    assert after.credential.version == 1


def test_new_secrets_raise_the_version_and_revive_a_dead_grant(wave_main: Connection) -> None:
    oauth.mark_disconnected(wave_main, "the grant was revoked")
    signed_in("Administrator").post(page("change", wave_main), {"secret_access_token": CANARY})
    after = Connection.objects.get()
    assert (after.status, after.status_reason, after.credential.version) == ("ready", "", 2)
    assert secrets_of(after) == {"access_token": CANARY}


def test_a_dead_grant_stays_dead_while_only_settings_change(wave_main: Connection) -> None:
    oauth.mark_disconnected(wave_main, "the grant was revoked")
    signed_in("Administrator").post(page("change", wave_main), {"setting_business_id": ""})
    assert Connection.objects.get().status == "needs_reconnect"


def test_a_new_client_secret_drops_the_token_that_came_from_the_old_one() -> None:
    credential = Credential.objects.create(secrets=json.dumps({"client_secret": "old", "access_token": "stale", "_applied": {}}))
    settings = {"subdomain": "acme", "client_id": "c"}
    connection = Connection.objects.create(slug="z", system="zendesk", auth="client_credentials", settings=settings, credential=credential)
    data = {"setting_subdomain": "acme", "setting_client_id": "c", "secret_client_secret": CANARY}
    signed_in("Administrator").post(page("change", connection), data)
    assert secrets_of(connection) == {"client_secret": CANARY, "_applied": {}}


def test_webhook_secrets_are_added_beside_the_old_ones_or_replace_them(wave_main: Connection) -> None:
    client, [old] = signed_in("Administrator"), webhook_secrets_of(wave_main)
    client.post(page("change", wave_main), {"webhook_secrets": "new"})
    assert webhook_secrets_of(wave_main) == [old, "new"]
    client.post(page("change", wave_main), {"webhook_secrets": "newest", "forget_webhook_secrets": "on"})
    assert webhook_secrets_of(wave_main) == ["newest"]


def test_another_way_in_asks_for_its_own_values_and_forgets_the_old_secrets(wave_main: Connection) -> None:
    data = {"setting_client_id": "client", "secret_client_secret": CANARY}
    signed_in("Administrator").post(page("change", wave_main) + "?auth=oauth", data)
    after = Connection.objects.get()
    assert (after.auth, after.settings, after.status) == ("oauth", {"client_id": "client"}, "incomplete")
    assert secrets_of(after) == {"client_secret": CANARY}


def test_a_deleted_connection_takes_its_secrets_along(wave_main: Connection, admin_client: Client) -> None:
    admin_client.post(page("delete", wave_main), {"post": "yes"})
    assert (Connection.objects.count(), Credential.objects.count(), Intake.objects.count()) == (0, 0, 0)


def test_a_place_with_bound_records_cannot_be_changed(zendesk_route: Callable[..., Route], wave_main: Connection) -> None:
    route = zendesk_route(wave_main, "bound")
    Binding.objects.create(route=route, kind="invoice", key="wave:b:invoice:1")
    zendesk, data = route.destination, {"setting_subdomain": "elsewhere", "setting_email": "ops@example.com"}
    answer = signed_in("Administrator").post(page("change", zendesk), data)
    assert list(errors_of(answer)) == ["setting_subdomain"]
    assert Connection.objects.get(pk=zendesk.pk).settings == zendesk.settings


def test_settings_beside_secrets_take_the_permission_to_connect(wave_main: Connection) -> None:
    client = signed_in()
    codenames = ("view_connection", "change_connection")
    User.objects.get(username="Nobody").user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    client.post(page("change", wave_main), {"setting_business_id": "00000000-0000-4000-8000-000000000000"})
    client.post(page("change", wave_main) + "?auth=oauth", {"setting_client_id": "c"})
    after = Connection.objects.get()
    assert (after.auth, after.settings, secrets_of(after)) == ("token", wave_main.settings, {"access_token": "wave-token"})


# --- Nothing comes out ---------------------------------------------------------------------------------------------


def test_no_page_message_or_log_entry_holds_a_secret() -> None:
    client = signed_in("Administrator")
    data = {"slug": "wave-main", "secret_access_token": CANARY, "webhook_secrets": CANARY}
    texts = [client.post(ADD + "?system=wave&auth=token", data, follow=True).content.decode()]
    connection = Connection.objects.get()
    texts += [client.get(address).content.decode() for address in (LIST, page("change", connection), page("history", connection))]
    texts.append(client.post(page("change", connection), {**data, "setting_business_id": "no id"}).content.decode())
    texts.append(client.post(page("change", connection), data, follow=True).content.decode())
    texts += [f"{entry.object_repr} {entry.change_message}" for entry in LogEntry.objects.all()]
    assert (len(texts), [text for text in texts if CANARY in text]) == (8, [])


def test_error_reports_leave_out_what_was_posted(wave_main: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    client, seen = signed_in("Administrator"), []

    def fail(connection: Connection, entered: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("integrations.accounts.store", fail)
    client.raise_request_exception = False
    answer = client.post(page("change", wave_main), {"secret_access_token": CANARY})
    seen.append(SafeExceptionReporterFilter().get_post_parameters(answer.wsgi_request))
    assert (answer.status_code, CANARY in str(seen)) == (500, False)


def test_a_lost_key_is_told_instead_of_breaking_the_page(wave_main: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(credential: Credential) -> Any:
        raise WrongKeyError("integrations.Credential.secrets was encrypted with a key that FERNET_KEYS lacks")

    monkeypatch.setattr(oauth, "secrets_of", locked)
    client = signed_in("Administrator")
    told = [str(message) for message in client.get(page("change", wave_main), follow=True).context["messages"]]
    assert told == ["integrations.Credential.secrets was encrypted with a key that FERNET_KEYS lacks"]
    assert client.get(LIST).status_code == 200


# --- Ping and columns ----------------------------------------------------------------------------------------------


def test_ping_shows_each_check_with_its_advice_outside_of_any_transaction(wave_main: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    depth = len(database.savepoint_ids)

    def ping(connection: Connection) -> list[Check]:
        assert (connection, len(database.savepoint_ids)) == (wave_main, depth)
        return [Check("user", ok=True, detail="Ada"), Check("scopes", ok=False, detail="invoice:read is missing", advice="connect again")]

    monkeypatch.setattr(systems, "ping", ping)
    html = signed_in("Administrator").post(page("ping", wave_main)).content.decode()
    assert [text for text in ("Ada", "invoice:read is missing", "connect again", "failed") if text not in html] == []


def test_ping_is_a_post_by_those_who_may_connect(wave_main: Connection) -> None:
    assert signed_in("Administrator").get(page("ping", wave_main)).status_code == 405
    assert signed_in("Operator").post(page("ping", wave_main)).status_code == 403


def test_the_list_loads_no_secrets_and_asks_as_often_for_many_as_for_one(
    wave_connection: Callable[..., Connection], zendesk_route: Callable[..., Route]
) -> None:
    client, counts = signed_in("Viewer"), []
    for numbers in (range(1), range(1, 20)):
        for number in numbers:
            zendesk_route(wave_connection(f"wave-{number}"), f"route-{number}")
        with CaptureQueriesContext(database) as queries:
            client.get(LIST)
        counts.append(len(queries))
        assert [query["sql"] for query in queries if "secrets" in query["sql"]] == []
    assert counts[0] == counts[1] <= 10


def test_who_may_only_look_sees_settings_and_counters_but_no_inputs(wave_main: Connection) -> None:
    Intake.objects.filter(connection=wave_main).update(forged=3, setup_until=timezone.now() + timedelta(minutes=5))
    html = signed_in("Viewer").get(page("change", wave_main)).content.decode()
    assert ("3 wrongly signed" in html, "Business ID" in html, 'type="password"' in html) == (True, True, False)
