"""What every answer tells a browser it may do."""

import pytest
from django.test import Client

from connector_site.csp import form_sources, policy

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("path", ["/admin/login/", "/healthz", "/nowhere", "/webhooks/wave/11111111-2222-4333-8444-555555555555/"])
def test_every_answer_carries_the_headers(path: str) -> None:
    headers = Client().get(path).headers
    rules = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
    assert rules == {
        "default-src": "'self'",
        "img-src": "'self' data:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
        "form-action": "'self' https://api.waveapps.com https://*.waveapps.com https://*.zendesk.com"
        " https://auth.atlassian.com https://*.atlassian.com",
    }
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"], headers["X-Frame-Options"]) == ("nosniff", "same-origin", "DENY")
    assert "camera=()" in headers["Permissions-Policy"]


@pytest.mark.parametrize(
    ("url", "sources"),
    [
        ("https://auth.atlassian.com", ["https://auth.atlassian.com", "https://*.atlassian.com"]),
        ("https://{subdomain}.zendesk.com", ["https://*.zendesk.com"]),
        ("http://127.0.0.1:9001/oauth2/", ["http://127.0.0.1:9001"]),
        ("http://localhost:9001", ["http://localhost:9001"]),
        ("https://wave.example", ["https://wave.example"]),
    ],
)
def test_a_form_may_lead_to_the_vendors_consent_page(url: str, sources: list[str]) -> None:
    assert form_sources(url) == sources


def test_nothing_inline_and_nothing_from_elsewhere() -> None:
    assert "unsafe" not in policy([])
    assert "*" not in policy([])
