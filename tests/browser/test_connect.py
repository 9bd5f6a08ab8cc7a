"""All three accounts are connected in a real browser, on the stand-ins' consent pages; with what goes wrong on the way.

UPDATE_SCREENSHOTS=1 renews the pictures of docs/connecting.md.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from integrations.models import Connection, Credential
from integrations.sandbox.jira import Jira
from integrations.sandbox.server import serving
from integrations.sandbox.wave import Wave
from integrations.sandbox.zendesk import Zendesk
from tests.flows.conftest import point_at
from tests.flows.world import close_sessions
from tests.integrations import accounts

SCREENSHOTS = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
OTHER_SITE = "66666666-7777-4888-8999-000000000000"


@dataclass(frozen=True, slots=True)
class Vendors:
    """The stand-ins behind the consent pages."""

    wave: Wave
    zendesk: Zendesk
    jira: Jira


@pytest.fixture
def world(chromium: Browser, transactional_db: None, settings: Settings, live_server: LiveServer, tmp_path: Path) -> Iterator[Vendors]:
    """Yield the stand-ins, with the product pointed at them and reached at the live server; nothing is connected."""
    vendors = Vendors(Wave(), Zendesk(), Jira())
    vendors.wave.add_business("Maple Consulting")
    settings.PUBLIC_URL, settings.STATIC_ROOT = live_server.url, tmp_path
    with serving({"wave": vendors.wave, "zendesk": vendors.zendesk, "jira": vendors.jira}) as base:
        point_at(settings, base)
        yield vendors
        close_sessions()


@pytest.fixture
def staff(log_in: Callable[[str], Page]) -> Page:
    page = log_in("Administrator")
    page.set_viewport_size({"width": 1000, "height": 760})
    return page


def connection_to(system: str, slug: str = "") -> Connection:
    """Store an account as the form does: the client is known, nobody has consented."""
    client = {
        "wave": ("wave-client", "wave-secret"),
        "zendesk": ("sandbox-client", "sandbox-secret"),
        "jira": ("jira-client", "jira-secret"),
    }
    settings = {"client_id": client[system][0]} | ({"subdomain": "acme"} if system == "zendesk" else {})
    made = accounts.connection(slug or f"{system}-main", system, "oauth", settings, {"client_secret": client[system][1]})
    Connection.objects.filter(pk=made.pk).update(status=Connection.Status.INCOMPLETE)
    return made


def shot(page: Page, name: str) -> None:
    if os.environ.get("UPDATE_SCREENSHOTS") == "1":
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}.png")


def go_out(page: Page, connection: Connection, *, picture: str = "") -> None:
    """Press Connect and go on to the vendor's consent page."""
    page.goto(f"/admin/integrations/connection/{connection.pk}/change/")
    page.locator("#connect").get_by_role("link", name=re.compile("^(Connect|Reconnect)$")).click()
    if picture:
        shot(page, f"{picture}-setup")
    page.get_by_role("button", name="Continue at").click()
    expect(page.get_by_role("button", name="Approve")).to_be_visible()
    if picture:
        shot(page, f"{picture}-consent")


def approve(page: Page, place: str = "") -> None:
    if place:
        page.get_by_label(place).check()
    page.get_by_role("button", name="Approve").click()


def told(page: Page, words: str) -> None:
    expect(page.locator(".messagelist")).to_contain_text(words)


def now(connection: Connection) -> Connection:
    return Connection.objects.get(pk=connection.pk)


# --- Wave ------------------------------------------------------------------------------------------------------------


def test_wave_is_connected_after_a_denial(world: Vendors, staff: Page) -> None:
    connection = connection_to("wave")
    go_out(staff, connection, picture="wave")
    staff.get_by_role("button", name="Deny").click()
    told(staff, "Wave: access was denied there. To connect, press Connect again and approve.")
    shot(staff, "wave-denied")
    assert now(connection).status == "incomplete"
    go_out(staff, connection)
    approve(staff, "Maple Consulting")
    told(staff, "Connected wave-main to Maple Consulting.")
    shot(staff, "wave-connected")
    assert (now(connection).status, now(connection).account["place_name"]) == ("ready", "Maple Consulting")


def test_a_wrong_state_and_a_replayed_callback_are_not_taken(world: Vendors, staff: Page) -> None:
    connection = connection_to("wave")
    staff.goto("/oauth/wave/callback/?state=made-up&code=stolen")
    told(staff, "Nobody asked for this answer in this browser")
    calls: list[str] = []
    staff.on("request", lambda request: calls.append(request.url))
    go_out(staff, connection)
    approve(staff, "Maple Consulting")
    told(staff, "Connected wave-main to Maple Consulting")
    before = accounts.held(connection)
    staff.goto(next(url for url in calls if "/oauth/wave/callback/" in url))
    told(staff, "This answer was taken already")
    assert accounts.held(connection) == before


def test_of_two_businesses_one_is_picked_and_the_other_is_no_silent_switch(world: Vendors, staff: Page) -> None:
    world.wave.add_business("Birch Bakery")
    connection = connection_to("wave")
    go_out(staff, connection)
    approve(staff, "All of them")
    expect(staff.get_by_role("heading", name="Which business?")).to_be_visible()
    shot(staff, "wave-business")
    staff.get_by_label("Birch Bakery").check()
    staff.get_by_role("button", name="Connect this business").click()
    told(staff, "Connected wave-main to Birch Bakery.")
    before = accounts.held(connection)
    go_out(staff, connection)
    approve(staff, "Maple Consulting")
    told(staff, "This connection is for the business Birch Bakery, but the grant reaches Maple Consulting. Nothing was changed.")
    assert accounts.held(connection) == before


# --- Zendesk ---------------------------------------------------------------------------------------------------------


def test_zendesk_is_connected_after_a_code_that_had_expired(world: Vendors, staff: Page) -> None:
    connection = connection_to("zendesk")
    world.zendesk.code_seconds = 0
    go_out(staff, connection, picture="zendesk")
    approve(staff)
    told(staff, "Zendesk: the code was used already or has expired (it lives 2 minutes)")
    world.zendesk.code_seconds = 120
    go_out(staff, connection)
    approve(staff)
    told(staff, "Connected zendesk-main to acme, as Connector.")
    shot(staff, "zendesk-connected")
    world.zendesk.acting_user = 77
    go_out(staff, connection)
    approve(staff)
    told(staff, "Zendesk: wrong account.")


def test_disconnecting_asks_revokes_and_says_so(world: Vendors, staff: Page) -> None:
    connection = connection_to("zendesk")
    go_out(staff, connection)
    approve(staff)
    told(staff, "Connected zendesk-main")
    staff.locator("#connect").get_by_role("link", name="Disconnect").click()
    shot(staff, "disconnect")
    assert now(connection).status == "ready"
    staff.get_by_role("button", name="Disconnect").click()
    told(staff, "Disconnected zendesk-main. The grant was revoked at Zendesk.")
    assert (now(connection).status, world.zendesk.tokens.grants) == ("incomplete", [])


# --- Jira ------------------------------------------------------------------------------------------------------------


def test_a_second_jira_site_joins_the_grant_of_the_first(world: Vendors, staff: Page) -> None:
    world.jira.add_site("globex", OTHER_SITE)
    world.jira.add_site("wiki", "77777777-7777-4888-8999-000000000000", ["read:confluence-content.all"])
    first, second = connection_to("jira"), connection_to("jira", "jira-globex")
    go_out(staff, first, picture="jira")
    approve(staff, "https://acme.atlassian.net")
    told(staff, "Connected jira-main to acme (https://acme.atlassian.net)")
    go_out(staff, second)
    approve(staff, "https://globex.atlassian.net")
    expect(staff.get_by_role("heading", name="Which site?")).to_be_visible()
    shot(staff, "jira-site")
    staff.get_by_label("globex").check()
    staff.get_by_role("button", name="Connect this site").click()
    told(staff, "Connected jira-globex to globex (https://globex.atlassian.net)")
    shot(staff, "jira-connected")
    assert [now(row).settings["cloud_id"] for row in (first, second)] == [world.jira.cloud_id, OTHER_SITE]
    assert (now(first).credential_id, Credential.objects.count()) == (now(second).credential_id, 1)


# --- Copying -----------------------------------------------------------------------------------------------------------


def test_a_copy_button_copies_the_redirect_uri(world: Vendors, staff: Page) -> None:
    staff.context.grant_permissions(["clipboard-read", "clipboard-write"])
    staff.goto("/admin/integrations/connection/setup/zendesk/")
    staff.get_by_role("button", name="Copy").first.click()
    expect(staff.get_by_role("button", name="Copied")).to_be_visible()
    copied = staff.evaluate("navigator.clipboard.readText()")
    assert copied.endswith("/oauth/zendesk/callback/")
