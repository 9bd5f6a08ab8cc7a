"""The admin as people use it: find a job, read it, replay it, ping an account, pause a route."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from playwright.sync_api import Page, expect

from audit.models import Hold, SyncJob
from integrations.models import Route
from tests.browser.conftest import PASSWORD
from tests.flows.world import World

LogIn = Callable[[str], Page]


def job_page(world: World) -> str:
    """Return the address of the invoice's job at Jira."""
    return reverse("admin:audit_syncjob_change", args=[world.job("jira").pk])


def test_a_person_logs_in_and_finds_a_job_by_its_invoice_number(world: World, page: Page) -> None:
    User.objects.create_superuser("root", password=PASSWORD)
    page.goto("/admin/")
    page.fill("#id_username", "root")
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")
    page.locator(f'#content a[href="{reverse("admin:audit_syncjob_changelist")}"]').first.click()
    expect(page.locator("#result_list tbody tr")).to_have_count(SyncJob.objects.count())

    page.fill("#searchbar", "INV-1")
    page.press("#searchbar", "Enter")
    rows = page.locator("#result_list tbody tr")
    expect(rows).to_have_count(SyncJob.objects.filter(title="INV-1").count())
    rows.filter(has_text="wave-to-jira").get_by_role("link", name="INV-1").click()
    expect(page.locator("#attempts .attempt")).to_have_count(1)
    expect(page.locator("#attempts")).to_contain_text("POST /rest/api/3/issue")
    expect(page.locator(".badge-succeeded").first).to_be_visible()


def test_replay_leads_to_the_new_job_which_a_worker_then_runs(world: World, log_in: LogIn) -> None:
    old = world.job("jira")
    page = log_in("Operator")
    page.goto(job_page(world))
    page.get_by_role("link", name="Replay", exact=True).click()
    page.locator("#content input[type=submit]").click()
    new = world.job("jira")
    assert new.replay_of_id == old.pk
    assert page.url.endswith(reverse("admin:audit_syncjob_change", args=[new.pk]))
    expect(page.locator(".messagelist")).to_be_visible()
    expect(page.locator("#content")).to_contain_text("pending")

    world.settle()
    page.reload()
    expect(page.locator("#content")).to_contain_text("unchanged")


def test_a_second_replay_joins_the_job_that_waits(world: World, log_in: LogIn) -> None:
    page = log_in("Operator")
    address = job_page(world)
    for _ in range(2):
        page.goto(f"{address}../replay/")
        page.locator("#content input[type=submit]").click()
        expect(page.locator(".messagelist")).to_be_visible()
    assert SyncJob.objects.filter(replay_of__isnull=False).count() == 1


def test_a_viewer_may_look_but_not_replay(world: World, log_in: LogIn) -> None:
    page = log_in("Viewer")
    page.goto(job_page(world))
    expect(page.locator("#attempts")).to_be_visible()
    expect(page.get_by_role("link", name="Replay", exact=True)).to_have_count(0)
    page.goto(reverse("admin:audit_syncjob_changelist"))
    expect(page.locator("select[name=action] option[value=replay_selected]")).to_have_count(0)


@pytest.mark.parametrize("system", ["wave", "zendesk", "jira"])
def test_ping_shows_every_check(world: World, log_in: LogIn, system: str) -> None:
    page = log_in("Administrator")
    page.goto(reverse("admin:integrations_connection_change", args=[world.connection(system).pk]))
    page.get_by_role("button", name="Ping").click()
    expect(page.locator("#content")).to_contain_text("Every check holds.")
    assert page.locator("#content .badge-ready").count() >= 1


def test_a_route_is_paused_and_resumed(world: World, log_in: LogIn) -> None:
    route = world.route("jira")
    page = log_in("Administrator")
    page.goto(reverse("admin:integrations_route_change", args=[route.pk]))
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    assert (Route.objects.get(pk=route.pk).paused_at is not None, world.holds()) == (True, [(f"route:{route.pk}", "paused")])
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    assert (Route.objects.get(pk=route.pk).paused_at, Hold.objects.count()) == (None, 0)


def test_no_page_is_wider_than_a_phone(world: World, log_in: LogIn) -> None:
    page = log_in("")
    page.set_viewport_size({"width": 375, "height": 800})
    lists = ["audit_syncjob", "integrations_connection", "integrations_route", "integrations_delivery", "integrations_binding"]
    addresses = ["/admin/", job_page(world), *(reverse(f"admin:{name}_changelist") for name in lists)]
    addresses += [reverse("admin:integrations_connection_change", args=[world.connection("wave").pk])]
    addresses += [reverse("admin:integrations_route_change", args=[world.route("jira").pk])]
    widths = {}
    for address in addresses:
        page.goto(address)
        widths[address] = page.evaluate("document.documentElement.scrollWidth")
    assert {address: width for address, width in widths.items() if width > 375} == {}
