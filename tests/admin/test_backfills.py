"""The pages of backfills: who may do what, and what they show."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from audit.models import SyncJob
from integrations.core.errors import Transient
from integrations.models import Route, Sweep
from tests.admin.people import attempt_of, job_of, job_values, signed_in
from tests.admin.test_pages import INLINE
from tests.fakes import FakeRemote, FakeWave
from tests.integrations.conftest import source, to_zendesk

__all__ = ["source", "to_zendesk"]
pytestmark = pytest.mark.django_db


@pytest.fixture
def route(wave: FakeWave, zendesk: FakeRemote, to_zendesk: Route) -> Route:
    """Return a route whose source has one customer with one invoice."""
    wave.put_invoice("1")
    return to_zendesk


def address(name: str, *args: Any) -> str:
    return reverse(f"admin:integrations_backfill_{name}", args=args)


def sweep_of(route: Route, state: str = "running", **more: Any) -> Sweep:
    now = timezone.now()
    given = {"phase": "invoice", "figures": {"total": 4000, "passed": 1500, "done": 1400, "failed": 90, "calls": 77}}
    ended = None if state in ("running", "paused") else now
    values = {"purpose": "backfill", "state": state, "started_by": "ada", "created_at": now, "due_at": now, "ended_at": ended}
    return Sweep.objects.create(route=route, source=route.source, **{**values, **given, **more})


def shown(sweep: Sweep, group: str = "Viewer") -> str:
    return signed_in(group).get(address("change", sweep.pk)).content.decode()


# --- Who may do what -------------------------------------------------------------------------------------------------


def test_a_viewer_sees_them_and_may_begin_and_switch_nothing(route: Route) -> None:
    sweep, client = sweep_of(route), signed_in("Viewer")
    listed = client.get(address("changelist"))
    assert listed.status_code == 200
    assert b"1,400 of 4,000" in listed.content
    assert address("begin", route.pk).encode() not in listed.content
    assert b"<button" not in client.get(address("change", sweep.pk)).content.split(b'id="content"')[1]
    for verb in (client.get, client.post):
        assert verb(address("begin", route.pk)).status_code == 403
        assert [verb(address("switch", sweep.pk, name)).status_code for name in ("pause", "resume", "cancel")] == [403] * 3
    sweep.refresh_from_db()
    assert (sweep.state, Sweep.objects.count(), SyncJob.objects.count()) == ("running", 1, 0)


def test_who_may_do_nothing_sees_nothing(route: Route) -> None:
    sweep, client = sweep_of(route), signed_in()
    assert [client.get(address(*page)).status_code for page in (("changelist",), ("change", sweep.pk), ("begin", route.pk))] == [403] * 3


@pytest.mark.parametrize("group", ["Operator", "Administrator"])
def test_an_operator_sees_what_it_takes_and_begins_it_with_a_post(route: Route, wave: FakeWave, zendesk: FakeRemote, group: str) -> None:
    client = signed_in(group)
    page = client.get(address("begin", route.pk))
    assert (page.status_code, Sweep.objects.count(), zendesk.events) == (200, 0, [])
    assert b"<dt>Customers</dt><dd>1</dd>" in page.content
    answer = client.post(address("begin", route.pk))
    sweep = Sweep.objects.get()
    assert (answer.status_code, answer.headers["Location"]) == (302, address("change", sweep.pk))
    assert (sweep.state, sweep.started_by, sweep.purpose) == ("running", group, "backfill")
    client.post(address("begin", route.pk))
    assert Sweep.objects.count() == 1


def test_pause_resume_and_cancel_are_posts_that_do_what_they_say(route: Route) -> None:
    sweep, client = sweep_of(route), signed_in("Operator")
    assert client.get(address("switch", sweep.pk, "cancel")).status_code == 405
    states = []
    for name in ("pause", "pause", "resume", "cancel", "resume"):
        client.post(address("switch", sweep.pk, name))
        sweep.refresh_from_db()
        states.append(sweep.state)
    assert states == ["paused", "paused", "running", "cancelled", "cancelled"]
    assert client.post(address("switch", sweep.pk, "explode")).status_code == 403
    told = client.get(address("change", sweep.pk)).content.decode()
    assert "It is cancelled: nothing was changed." in told


def test_what_is_no_backfill_is_not_switched(route: Route) -> None:
    other = sweep_of(route, purpose="reconcile")
    assert signed_in("Operator").post(address("switch", other.pk, "cancel")).status_code == 404
    other.refresh_from_db()
    assert other.state == "running"


def test_a_source_that_cannot_be_asked_is_told_and_there_is_nothing_to_press(route: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*given: Any, **more: Any) -> None:
        raise Transient("POST /graphql: 503", code="unavailable")

    monkeypatch.setattr("integrations.estimating.estimate", failing)
    page = signed_in("Operator").get(address("begin", route.pk)).content.decode()
    assert "Wave could not be asked: POST /graphql: 503" in page
    assert 'value="Begin"' not in page


# --- What they show --------------------------------------------------------------------------------------------------


def test_a_running_one_shows_how_far_it_is_and_renews_itself(route: Route) -> None:
    began = (timezone.now() - timedelta(minutes=30)).isoformat()
    figures = {"total": 4000, "passed": 1500, "done": 1400, "failed": 90, "calls": 77, "listed_at": began}
    page = shown(sweep_of(route, figures=figures))
    assert '<meta http-equiv="refresh"' in page
    assert '<progress id="progress" max="4000" value="1500">' in page
    for name, value in (("Done", "1,400"), ("Failed", "90"), ("To go", "2,500"), ("Time left, about", "50 min"), ("Calls used", "77")):
        assert f"<dt>{name}</dt><dd>{value}</dd>" in page, name
    assert "<dt>Left to own runs</dt><dd>10</dd>" in page
    assert INLINE.findall(page) == []


def test_one_that_waits_says_why_and_until_when(route: Route) -> None:
    page = shown(sweep_of(route, problem="zendesk is held: vendor_down"))
    assert "zendesk is held: vendor_down. It tries again at" in page


def test_while_it_lists_it_shows_how_many_it_has_met_so_far(route: Route) -> None:
    page = shown(sweep_of(route, phase="listing invoices", figures={"listed": 1200, "calls": 12}))
    assert "Under way: listing invoices." in page
    assert "<dt>Listed</dt><dd>1,200</dd>" in page
    assert "<dt>To go</dt>" not in page


@pytest.mark.parametrize("state", ["paused", "done", "cancelled"])
def test_one_that_rests_or_is_over_does_not_renew_itself(route: Route, state: str) -> None:
    page = shown(sweep_of(route, state, options={"refused": {"user": "403"}}))
    assert "refresh" not in page.split("<body")[0]
    assert ("To go" in page) == (state == "paused")
    assert f"user {'is' if state == 'paused' else 'was'} written one by one, for bulk was refused: 403" in page


def test_failures_are_listed_with_their_reasons_a_page_of_them(route: Route) -> None:
    sweep, now = sweep_of(route), timezone.now()
    times = {"created_at": now, "settled_at": now, "error_code": "invalid", "state": "dead"}
    SyncJob.objects.bulk_create(SyncJob(**{**job_values(route, number), **times}) for number in range(1000))
    attempt_of(job_of(route, 1000, **{**times, "created_at": now - timedelta(days=1)}), message="POST /organizations: 422 <b>")
    job_of(route, 2000, state="dead", settled_at=now - timedelta(days=1))
    client = signed_in("Viewer")
    with CaptureQueriesContext(connection) as captured:
        page = client.get(address("change", sweep.pk)).content.decode()
    assert len(captured) < 20
    assert "POST /organizations: 422 &lt;b&gt;" in page
    assert "The first 50 of 1,001." in page
    assert page.count('<span class="badge">invalid</span>') == 50
    assert f"?state__exact=dead&amp;route_slug={route.slug}" in page
    assert "INV-2000" not in page, "it failed before"
