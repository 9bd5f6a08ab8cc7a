"""Headers that tell a browser what our pages may load, who may frame them, and where a form may lead."""

import ipaddress
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

# Where Connect leads to. Chromium holds a form's redirects to form-action too, and the vendors redirect on to their login.
CONSENT_SETTINGS = ("WAVE_OAUTH_URL", "ZENDESK_URL", "ATLASSIAN_AUTH_URL")
PERMISSIONS = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"


class BrowserPolicy:
    """Middleware: every answer carries the policy; the admin loads nothing from elsewhere and runs no inline script."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer with the headers; a view's own policy stays."""
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", policy(getattr(settings, name) for name in CONSENT_SETTINGS))
        response.headers.setdefault("Permissions-Policy", PERMISSIONS)
        return response


def policy(consent_urls: Iterable[str]) -> str:
    """Return the Content-Security-Policy; forms may lead to ourselves and to the vendors' consent pages."""
    forms = " ".join(dict.fromkeys(["'self'", *(source for url in consent_urls for source in form_sources(url))]))
    rules = ("default-src 'self'", "img-src 'self' data:", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'")
    return "; ".join([*rules, f"form-action {forms}"])


def form_sources(url: str) -> list[str]:
    """Return the sources for a vendor's address: its own origin, and its neighbours where it sends people to log in."""
    parts = urlsplit(url.replace("{subdomain}", "*"))
    host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
    neighbours = "*." + host.partition(".")[2]
    found = [host] if _is_alone(host) or host == neighbours else [host, neighbours]
    return [f"{parts.scheme}://{name}{port}" for name in found]


def _is_alone(host: str) -> bool:
    """Whether a host has no neighbours that belong to the same owner: an IP address, or a name right below a top-level domain."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.count(".") < 2
    return True
