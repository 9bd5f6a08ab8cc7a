"""Whose login attempts are counted together, and what is answered when there were too many."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def client_ip(request: HttpRequest) -> str:
    """Return the address that a request comes from: what the outermost of our own PROXIES saw.

    A sender may write anything into X-Forwarded-For; only what our own proxies append, at its right end, is believed.
    """
    forwarded = [part.strip() for part in str(request.META.get("HTTP_X_FORWARDED_FOR", "")).split(",") if part.strip()]
    if settings.PROXIES and len(forwarded) >= settings.PROXIES:
        return forwarded[-int(settings.PROXIES)]
    return str(request.META.get("REMOTE_ADDR", ""))


def locked_out(request: HttpRequest, original_response: Any = None, credentials: Any = None) -> HttpResponse:
    """Answer a login that is refused for a while, whatever the password."""
    minutes = round(settings.AXES_COOLOFF_TIME.total_seconds() / 60)
    response = render(
        request, "admin/locked_out.html", {**admin.site.each_context(request), "minutes": minutes, "title": "Too many attempts"}, status=429
    )
    response["Retry-After"] = str(minutes * 60)
    return response
