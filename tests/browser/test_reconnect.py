"""A dead grant is mended in the browser: what 200 events asked for meanwhile waits as one job per record, and then runs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from audit.models import Attempt
from audit.states import State
from tests.browser.test_connect import approve, go_out, told
from tests.flows.conftest import empty_world, threaded_world
from tests.flows.test_refused_refresh import EVENTS, RECORDS, refused_by_schedule, statuses, unsettled
from tests.flows.world import Setup, World

__all__ = ["empty_world", "threaded_world"]


@pytest.fixture
def world(
    chromium: Browser, threaded_world: Callable[[Setup], World], settings: Settings, live_server: LiveServer, tmp_path: Path
) -> World:
    """Return a world whose accounts are all connected by OAuth, reached at the live server."""
    settings.PUBLIC_URL, settings.STATIC_ROOT = live_server.url, tmp_path
    return threaded_world(Setup(oauth=True))


def test_reconnecting_in_the_browser_turns_the_blocked_jobs_loose(world: World, log_in: Callable[[str], Page]) -> None:
    customer = world.customer()
    invoices = [world.invoice(customer, f"INV-{number}", total="10.00") for number in range(1, RECORDS + 1)]
    refused_by_schedule(world, "wave")
    with world.counting() as counted:
        answers = [world.deliver("invoice.viewed", invoice=invoice).status_code for _ in range(EVENTS["wave"]) for invoice in invoices]
    assert (len(answers), set(answers), counted.wave) == (200, {503}, [])
    # A job per invoice and destination, and one for the customer whom Zendesk sums up.
    assert list(unsettled().values_list("state", flat=True)) == [State.BLOCKED] * (2 * RECORDS + 1)
    assert not Attempt.objects.exists()

    staff = log_in("Administrator")
    go_out(staff, world.connection("wave"))
    approve(staff, "Maple Consulting")
    told(staff, "Connected wave-main to Maple Consulting")
    assert set(statuses().values()) == {"ready"}
    for _ in range(6):
        world.settle_later()
    assert not unsettled().exists(), world.jobs()
    records = {one["key"]: one["records"] for one in world.zendesk.state()["custom_objects"]}["wave_invoice"]
    assert (len(records), len(world.jira.state()["issues"])) == (RECORDS, RECORDS)
