"""The page of a connection's webhook: permissions, POST only, confirmation, secrets that are shown once, history."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from integrations import webhook_secrets
from integrations.models import Connection, Intake, Route
from tests.admin.people import signed_in
from tests.conftest import WEBHOOK_SECRET

pytestmark = pytest.mark.django_db
NEW = "canary-of-a-new-webhook-secret"
Make = Callable[..., Connection]


def at(name: str, connection: Connection, *more: str) -> str:
    return reverse(f"admin:integrations_connection_{name}", args=[connection.pk, *more])


def page(client: Client, connection: Connection) -> str:
    return client.get(at("webhook", connection)).content.decode()


def urls(connection: Connection) -> dict[str, str]:
    names = ("webhook_add", "webhook_setup", "webhook_setup_end", "webhook_test", "webhook_generate")
    return {name: at(name, connection) for name in names}


def test_buttons_are_for_administrators_and_posts_only(wave_connection: Make) -> None:
    wave = wave_connection()
    for url in urls(wave).values():
        assert [signed_in(group).post(url).status_code for group in ("Viewer", "Operator")] == [403, 403]
        assert signed_in("Administrator").get(url).status_code == 405
        assert Client().post(url).status_code == 302  # to the login
        assert Client(enforce_csrf_checks=True).post(url).status_code == 403
    retire = at("webhook_retire", wave, webhook_secrets.fingerprint(WEBHOOK_SECRET))
    assert [signed_in(group).post(retire).status_code for group in ("Viewer", "Operator")] == [403, 403]
    assert json.loads(Intake.objects.get().secrets) == [WEBHOOK_SECRET]


def test_who_may_look_sees_fingerprints_and_no_buttons(wave_connection: Make) -> None:
    wave = wave_connection()
    seen = page(signed_in("Viewer"), wave)
    assert webhook_secrets.fingerprint(WEBHOOK_SECRET) in seen
    assert [word for word in ("Add secret", "Begin set-up", "Send test", WEBHOOK_SECRET) if word in seen] == []
    assert signed_in().get(at("webhook", wave)).status_code == 403


def test_a_new_secret_is_stored_and_never_shown_again(wave_connection: Make) -> None:
    wave, client = wave_connection(), signed_in("Administrator")
    answer = client.post(at("webhook_add", wave), {"secret": NEW}, follow=True)
    assert json.loads(Intake.objects.get().secrets) == [WEBHOOK_SECRET, NEW]
    assert NEW not in answer.content.decode() + page(client, wave)
    assert answer.headers["Cache-Control"].startswith("max-age=0")
    entry = LogEntry.objects.get()
    assert entry.change_message == f"Added the webhook secret {webhook_secrets.fingerprint(NEW)}."


def test_a_secret_is_retired_after_a_question(wave_connection: Make) -> None:
    wave, client = wave_connection(), signed_in("Administrator")
    url = at("webhook_retire", wave, webhook_secrets.add(wave, NEW))
    assert "Yes, retire it" in client.get(url).content.decode()
    assert len(json.loads(Intake.objects.get().secrets)) == 2
    client.post(url)
    assert json.loads(Intake.objects.get().secrets) == [WEBHOOK_SECRET]
    assert "There is no such secret any more." in client.post(url, follow=True).content.decode()


def test_set_up_mode_begins_and_ends(wave_connection: Make) -> None:
    wave, client = wave_connection(), signed_in("Administrator")
    client.post(at("webhook_setup", wave))
    assert (Intake.objects.get().setup_until is not None, "End set-up mode" in page(client, wave)) == (True, True)
    Client().post(f"/webhooks/wave/{wave.uuid}/", b"", "application/json")
    assert "A probe came at" in page(client, wave)
    client.post(at("webhook_setup_end", wave))
    assert Intake.objects.get().setup_until is None


def test_a_test_delivery_shows_what_to_do_where_it_fails(wave_connection: Make, settings: Any) -> None:
    settings.PUBLIC_URL = "http://127.0.0.1:9"
    seen = signed_in("Administrator").post(at("webhook_test", wave_connection())).content.decode()
    assert "Nothing listens at PUBLIC_URL" in seen


def test_a_sender_that_takes_our_secret_gets_one_that_is_shown_once(wave_connection: Make, jira_route: Callable[..., Route]) -> None:
    jira, client = jira_route(wave_connection()).destination, signed_in("Administrator")
    shown = client.post(at("webhook_generate", jira))
    secret = json.loads(Intake.objects.get(connection=jira).secrets)[0]
    assert (secret in shown.content.decode(), secret in page(client, jira), len(secret)) == (True, False, 43)
    assert "no-store" in shown.headers["Cache-Control"]
    assert "Set-up mode" not in page(client, jira)


def test_a_source_makes_its_secrets_itself_and_an_account_without_webhook_has_no_page(
    wave_connection: Make, zendesk_route: Callable[..., Route]
) -> None:
    wave, client = wave_connection(), signed_in("Administrator")
    assert client.post(at("webhook_generate", wave)).status_code == 404
    assert client.get(at("webhook", zendesk_route(wave).destination)).status_code == 404


def test_health_stands_on_the_connections_page_and_in_the_list(wave_connection: Make) -> None:
    wave, client = wave_connection(), signed_in("Viewer")
    Connection.objects.update(status="needs_reconnect", status_reason="the grant was revoked")
    change = client.get(reverse("admin:integrations_connection_change", args=[wave.pk])).content.decode()
    assert 'id="health"' in change
    assert "Connect again: what waits then runs by itself." in change
    listed = client.get(reverse("admin:integrations_connection_changelist")).content.decode()
    assert '<span class="badge badge-health-failed">reconnect</span>' in listed
