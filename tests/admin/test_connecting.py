"""The pages around Connect and Disconnect: who may, what a GET does (nothing), and what they show."""

import pytest
from django.test import Client

from integrations.models import Connection
from tests.admin.people import signed_in
from tests.admin.test_pages import INLINE
from tests.integrations import accounts

pytestmark = pytest.mark.django_db
NAMES = ("connect", "disconnect")


def address(connection: Connection, name: str) -> str:
    return f"/admin/integrations/connection/{connection.pk}/{name}/"


@pytest.mark.parametrize("name", [*NAMES, "choose"])
def test_who_may_not_connect_may_neither_look_nor_press(name: str) -> None:
    client, connection = signed_in(), accounts.wave()
    assert [client.get(address(connection, name)).status_code, client.post(address(connection, name)).status_code] == [403, 403]


def test_a_get_neither_connects_nor_disconnects() -> None:
    connection, client = accounts.wave(), signed_in("Administrator")
    answers = [client.get(address(connection, name)) for name in NAMES]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [INLINE.findall(answer.content.decode()) for answer in answers] == [[], []]
    assert accounts.held(connection) == accounts.WAVE_SECRETS
    assert "connect_asked" not in client.session


def test_connecting_without_a_csrf_token_is_refused() -> None:
    client, connection = signed_in("Administrator"), accounts.wave()
    client.handler.enforce_csrf_checks = True
    assert [client.post(address(connection, name)).status_code for name in NAMES] == [403, 403]


def test_the_page_of_a_system_tells_what_to_register_before_there_is_a_connection() -> None:
    client = signed_in("Administrator")
    for system, words in (("wave", "Pro or Wave Advisor"), ("zendesk", "OAuth clients"), ("jira", "security requirements")):
        html = client.get(f"/admin/integrations/connection/setup/{system}/").content.decode()
        assert f"http://127.0.0.1:8000/oauth/{system}/callback/" in html
        assert words in html
        assert INLINE.findall(html) == []
    assert client.get("/admin/integrations/connection/setup/hubspot/").status_code == 404


def test_every_way_in_is_offered_with_what_to_know_of_it() -> None:
    html = signed_in("Administrator").get("/admin/integrations/connection/add/").content.decode()
    for words in ("Polling only", "The usual way", "no new ones can be made", "lives a year at most", "Atlassian asks for your consent"):
        assert words in html


def test_a_callback_of_nobody_or_of_who_may_not_takes_nothing() -> None:
    assert Client().get("/oauth/wave/callback/?state=a&code=b").headers["Location"] == "/admin/"
    assert signed_in().get("/oauth/wave/callback/?state=a&code=b").status_code == 403
    assert signed_in("Administrator").get("/oauth/hubspot/callback/").status_code == 404
    assert signed_in("Administrator").post("/oauth/wave/callback/").status_code == 405
