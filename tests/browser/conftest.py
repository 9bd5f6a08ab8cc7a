"""A browser, people with different rights, and a site with an invoice that was synced."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.test import Client
from playwright.sync_api import Browser, Page, sync_playwright
from pytest_django.live_server_helper import LiveServer

from tests.flows.world import World
from tests.processes.conftest import site
from tests.processes.site import Site

CHROMIUM = Path("/usr/bin/chromium")
# Nothing is drawn by a graphics card that is not there, and nothing is fetched that no test asked for.
FLAGS = [
    *("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-gpu-rasterization", "--disable-software-rasterizer"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-quic"),
]
PASSWORD = "a long password of the tests"
__all__ = ["site"]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Start the browser once for all tests."""
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed (Debian: apt-get install chromium)")
    with pytest.MonkeyPatch.context() as patched, sync_playwright() as playwright:
        patched.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright keeps an event loop in this thread, which Django minds
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def world(chromium: Browser, site: Site) -> World:
    """Return a world in which INV-1 is synced to both destinations."""
    site.world.synced()
    return site.world


@pytest.fixture
def page(chromium: Browser, world: World, live_server: LiveServer) -> Iterator[Page]:
    """Yield an empty page of nobody; the scripts and styles that it loads must work."""
    context = chromium.new_context(base_url=live_server.url, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(10_000)
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda message: complaints.append(f"{message.text} {message.location}") if message.type == "error" else None)
    yield opened
    context.close()
    assert [complaint for complaint in complaints if "/favicon.ico" not in complaint] == []


@pytest.fixture
def log_in(page: Page, live_server: LiveServer) -> Callable[[str], Page]:
    """Return what opens the admin as a member of a group; "" is a superuser."""

    def enter(group: str) -> Page:
        user = User.objects.create_user("ada", password=PASSWORD, is_staff=True, is_superuser=not group)
        if group:
            user.groups.add(Group.objects.get(name=group))
        client = Client()
        client.force_login(user)
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
        page.goto("/admin/")
        return page

    return enter
