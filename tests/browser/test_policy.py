"""The pages under the Content-Security-Policy, wide and narrow: nothing is blocked, nothing runs out of its column."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from integrations import webhook_secrets
from integrations.models import Connection, Delivery
from tests.flows.world import World

LogIn = Callable[[str], Page]
SHOTS = Path(os.environ.get("SCREENSHOTS", ""))


def kept(page: Page, name: str) -> None:
    if SHOTS.name:
        page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=True)


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def pages() -> dict[str, str]:
    row = Connection.objects.get(system="wave")
    return {
        "list": reverse("admin:integrations_connection_changelist"),
        "connection": reverse("admin:integrations_connection_change", args=[row.pk]),
        "webhook": reverse("admin:integrations_connection_webhook", args=[row.pk]),
        "index": reverse("admin:index"),
        "jobs": reverse("admin:audit_syncjob_changelist"),
        "add": reverse("admin:integrations_connection_add"),
    }


@pytest.mark.parametrize("width", [1400, 375])
def test_every_page_loads_and_fits(world: World, log_in: LogIn, width: int) -> None:
    page = log_in("")  # the fixture sees at the end that the console is empty
    page.set_viewport_size({"width": width, "height": 900})
    for name, address in pages().items():
        answer = page.goto(address)
        assert answer
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        kept(page, f"{name}-{width}")
        if name in ("connection", "webhook"):
            assert fits(page), name


def test_health_says_what_to_do(world: World, log_in: LogIn) -> None:
    row = Connection.objects.get(system="wave")
    Connection.objects.filter(pk=row.pk).update(last_ok_at=timezone.now() - timedelta(hours=5))
    assert Delivery.objects.filter(connection=row).exclude(secret="").update(skew=-120.0)
    page = log_in("Administrator")
    page.goto(pages()["connection"])
    problems = page.locator("#health .problems")
    expect(problems).to_contain_text("Set this machine's clock by NTP")
    expect(page.locator("#health h2 .badge")).to_have_text("look at it")
    for width in (1400, 375):
        page.set_viewport_size({"width": width, "height": 900})
        expect(page.locator("#health dl").first).to_be_visible()
        kept(page, f"health-{width}")


def test_a_secret_is_added_set_up_mode_begins_and_a_test_delivery_arrives(world: World, log_in: LogIn, settings: object) -> None:
    page = log_in("Administrator")
    settings.PUBLIC_URL = page.url.split("/admin/")[0]  # type: ignore[attr-defined]
    page.goto(pages()["webhook"])
    page.fill("#id_secret", "the-new-secret-that-wave-shows")
    page.get_by_role("button", name="Add secret").click()
    expect(page.locator(".messagelist")).to_contain_text(webhook_secrets.fingerprint("the-new-secret-that-wave-shows"))
    page.get_by_role("button", name="Begin set-up mode").click()
    expect(page.locator("p.note")).to_contain_text("No probe came yet")
    kept(page, "webhook-rotating")
    page.get_by_role("button", name="Send test delivery").click()
    expect(page.locator(".badge-ready")).to_have_text("arrived")
    kept(page, "trial")
