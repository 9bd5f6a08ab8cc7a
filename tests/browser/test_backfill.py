"""A backfill in the browser: begun from its route, watched, paused, resumed, and cancelled."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from integrations import bringing, tasks
from integrations.models import Sweep
from tests.flows.backfilling import unhurried
from tests.flows.world import World
from tests.integrations.test_backfill_turns import turned

LogIn = Callable[[str], Page]


@pytest.fixture
def page_of_two(world: World, log_in: LogIn) -> Page:
    """Return an operator's browser; besides the customer and invoice that are there, Wave has two invoices more."""
    customer = world.customer("Grace & Sons", email="grace@example.com")
    for number in ("INV-8", "INV-9"):
        world.invoice(customer, number)
    world.clock.shift(timedelta(hours=1))
    return log_in("Operator")


def begin(page: Page, world: World) -> None:
    """Begin one from its route's page."""
    page.goto(reverse("admin:integrations_route_changelist"))
    page.get_by_role("link", name="wave-to-jira").first.click()
    page.get_by_role("link", name="Backfill", exact=True).click()
    expect(page.locator(".figures")).to_contain_text("Invoices3")
    page.get_by_role("button", name="Begin").click()
    expect(page.locator("#content")).to_contain_text("Under way: listing invoices")


def figure(page: Page, name: str) -> str:
    found = page.locator(".figures > div").filter(has_text=name).locator("dd").text_content()
    return found or ""


def test_it_is_begun_watched_paused_resumed_and_done(world: World, page_of_two: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    page = page_of_two
    begin(page, world)
    monkeypatch.setattr(bringing, "MOST", 1)
    turned(Sweep.objects.get(), before="invoice", batches=1)
    page.reload()
    expect(page.locator(".progress")).to_contain_text("1 of 3")
    assert (figure(page, "Done"), figure(page, "To go")) == ("1", "2")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".facts-line .badge-paused")).to_be_visible()
    tasks.backfill()
    page.reload()
    assert figure(page, "Done") == "1", "it rests"
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".facts-line .badge-running")).to_be_visible()
    tasks.backfill()
    page.reload()
    expect(page.locator(".facts-line .badge-done")).to_be_visible()
    expect(page.locator(".progress")).to_contain_text("3 of 3")
    assert (figure(page, "Done"), figure(page, "Failed")) == ("3", "0")
    assert len(world.jira.state()["issues"]) == 3
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_it_is_cancelled_and_can_be_begun_anew(world: World, page_of_two: Page) -> None:
    page = page_of_two
    begin(page, world)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".messagelist")).to_contain_text("It is cancelled; what it has brought stays.")
    expect(page.get_by_role("button", name="Resume")).to_have_count(0)
    with unhurried(world):
        tasks.backfill()
    assert len(world.jira.state()["issues"]) == 1
    begin(page, world)
    assert sorted(Sweep.objects.values_list("state", flat=True)) == ["cancelled", "running"]
