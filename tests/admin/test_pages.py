"""All pages keep to a policy of `default-src 'self'`: no inline script, style or handler."""

import re
from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from integrations import provision, systems
from integrations.core.ports import Check, Step
from integrations.models import Connection, FieldMapping, Route, StatusMapping
from tests.admin.people import attempt_of, binding_of, delivery_of, job_of

pytestmark = pytest.mark.django_db
INLINE = re.compile(r"<script(?![^>]*\ssrc=)[^>]*>|<style|\sstyle=|\son[a-z]+=|javascript:", re.IGNORECASE)


@pytest.fixture
def route(wave_connection: Callable[..., Connection], jira_route: Callable[..., Route]) -> Route:
    return jira_route(wave_connection())


def test_no_page_has_inline_scripts_or_styles(route: Route, admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "ping", lambda connection: [Check("call", ok=False, advice="try again")])
    monkeypatch.setattr(provision, "provision", lambda route, dry_run: [Step("field", "create")])
    FieldMapping.objects.create(route=route, kind="invoice", target="T", template="x", problem="refused")
    StatusMapping.objects.create(route=route, state="PAID", status="Done")
    job = job_of(route, 7)
    attempt_of(job, words="no")
    rows = [job, delivery_of(route, subject=job.key, job_ids=[str(job.pk)]), binding_of(route, 7), route, route.source]
    lists = [reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_changelist") for row in rows]
    pages = [f"{address}{row.pk}/change/" for address, row in zip(lists, rows, strict=True)]
    adds = [
        "/admin/integrations/connection/add/",
        "/admin/integrations/connection/add/?system=wave&auth=oauth",
        "/admin/integrations/route/add/",
        f"/admin/integrations/route/add/?source={route.source_id}&destination={route.destination_id}",
    ]
    asked = [f"{pages[0]}".replace("change", "replay"), f"{pages[3]}".replace("change", "provision")]
    found = {}
    for address in ("/admin/", *lists, *pages, *adds, *asked):
        answer = admin_client.get(address)
        assert answer.status_code == 200, address
        found[address] = INLINE.findall(answer.content.decode())
    found["ping"] = INLINE.findall(admin_client.post(pages[4].replace("change", "ping")).content.decode())
    assert {address: inline for address, inline in found.items() if inline} == {}
