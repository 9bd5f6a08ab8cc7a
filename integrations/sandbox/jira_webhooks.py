"""Answer for dynamic webhooks, which only an OAuth app can register, and make the deliveries of these and of admins' webhooks.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-webhooks/
https://developer.atlassian.com/cloud/jira/platform/webhooks/
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import requests

from integrations.sandbox import jira_shapes as shapes
from integrations.sandbox.jira_site import Issue, RefusedError, Site, Webhook, members, page, stamp
from integrations.sandbox.server import Request, Response

LIFE = timedelta(days=30)
MOST = 5  # per app, user and site
EVENTS = {
    "jira:issue_created",
    "jira:issue_updated",
    "jira:issue_deleted",
    "comment_created",
    "comment_updated",
    "comment_deleted",
    "issue_property_set",
    "issue_property_deleted",
}
_FIELDS = {"issuekey", "project", "issuetype", "status", "assignee", "reporter"}
_CLAUSE = re.compile(r"\s*([\w.\[\]]+)\s*(=|!=|not\s+in|in)\s*(\([^()]+\)|\"[^\"]+\"|[^\s()]+)\s*", re.IGNORECASE)


def register(site: Site, request: Request) -> Response:
    """Register webhooks; the answer is a 200 with a result for each, even if all failed."""
    body = members(request)
    url, asked = body.get("url"), body.get("webhooks")
    if not isinstance(url, str) or not re.match("https?://", url) or not isinstance(asked, list) or not asked:
        raise RefusedError(400, "'url' and 'webhooks' are required.")
    return Response(200, {"webhookRegistrationResult": [_register(site, url, entry) for entry in asked]})


def _register(site: Site, url: str, entry: Any) -> dict[str, Any]:
    faults = _faults(site, url, entry if isinstance(entry, dict) else {})
    if faults:
        return {"errors": faults}
    number = next(site.webhook_ids)
    site.webhooks[number] = Webhook(number, url, entry["events"], entry["jqlFilter"], site.clock() + LIFE)
    return {"createdWebhookId": number}


def _faults(site: Site, url: str, entry: dict[str, Any]) -> list[str]:
    events, jql = entry.get("events"), entry.get("jqlFilter")
    if not isinstance(events, list) or not events or not isinstance(jql, str) or not jql.strip():
        return ["'events' and 'jqlFilter' are required."]
    faults = [f"The event {event} is unsupported" for event in events if str(event) not in EVENTS]
    faults += [f"The clause {part.strip()} is unsupported" for part in re.split(r"\s(?:and|or)\s", jql, flags=re.I) if not _supported(part)]
    if any(hook.url != url for hook in site.webhooks.values()):
        faults.append("Only a single URL per app is allowed to be registered via REST API")
    if len(site.webhooks) >= MOST:
        faults.append(f"The limit of {MOST} webhooks per app is reached")
    return faults


def _supported(clause: str) -> bool:
    match = _CLAUSE.fullmatch(clause)
    return match is not None and (match[1].lower() in _FIELDS or match[1].startswith("issue.property"))


def list_all(site: Site, request: Request) -> Response:
    """Return a page of the app's webhooks; expired ones stay listed."""
    return Response(200, page(request, [_shape(site, hook) for hook in site.webhooks.values()], most=100))


def _shape(site: Site, hook: Webhook) -> dict[str, Any]:
    return {"id": hook.id, "url": hook.url, "events": hook.events, "jqlFilter": hook.jql_filter, "expirationDate": _date(site, hook)}


def _date(site: Site, hook: Webhook) -> int | str:
    # The vendor's schema says milliseconds, its example a text.
    return stamp(hook.expires) if site.webhook_dates_as_text else int(hook.expires.timestamp() * 1000)


def refresh(site: Site, request: Request) -> Response:
    """Give the named webhooks 30 more days; unknown ids are ignored, so a 200 proves nothing."""
    ends = site.clock() + LIFE
    for hook in _named(site, request):
        hook.expires = hook.expires if hook.id in site.deaf_webhooks else ends
    return Response(200, {"expirationDate": _date(site, Webhook(0, "", [], "", ends))})


def delete(site: Site, request: Request) -> Response:
    """Delete the named webhooks; unknown ids are ignored."""
    for hook in _named(site, request):
        del site.webhooks[hook.id]
    return Response(202)


def _named(site: Site, request: Request) -> list[Webhook]:
    ids = members(request).get("webhookIds")
    if not isinstance(ids, list) or not all(isinstance(number, int) for number in ids):
        raise RefusedError(400, "'webhookIds' must be a list of numbers.")
    return [hook for hook in list(site.webhooks.values()) if hook.id in ids]


ROUTES = (
    ("POST", "/webhook", register),
    ("GET", "/webhook", list_all),
    ("PUT", "/webhook/refresh", refresh),
    ("DELETE", "/webhook", delete),
)


# --- Sending ------------------------------------------------------------------------------------------------------

TOKEN_LIFE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Sent:
    """One delivery on its way."""

    url: str
    headers: dict[str, str]
    body: bytes

    def post(self, *, timeout: float = 30) -> requests.Response:
        """Post it and return the answer, redirects not followed."""
        return requests.post(self.url, data=self.body, headers=self.headers, timeout=timeout, allow_redirects=False)


@dataclass(frozen=True, slots=True)
class Happening:
    """What a delivery tells: the event, who did it, and the changed fields as (from, to) by name."""

    event: str = "jira:issue_updated"
    actor: str = "557058:a-person"
    changes: Mapping[str, tuple[str, str]] | None = None
    event_type: str = "issue_generic"


def body_of(site: Site, issue: Issue, happening: Happening) -> bytes:
    """Return the body of a delivery about an issue as it is now."""
    items = [
        {"field": name, "fieldId": name, "fieldtype": "jira", "fromString": before, "toString": after}
        for name, (before, after) in (happening.changes or {}).items()
    ]
    told: dict[str, Any] = {
        "timestamp": int(site.clock().timestamp() * 1000),
        "webhookEvent": happening.event,
        "user": {"accountId": happening.actor, "displayName": "Pat Person", "active": True},
        "issue": shapes.issue(site, issue, ["*all"]),
    }
    if happening.event == "jira:issue_updated":
        told |= {"issue_event_type_name": happening.event_type, "changelog": {"id": "10124", "items": items}}
    return json.dumps(told).encode()


def token(claims: Mapping[str, Any], secret: str, *, algorithm: str = "HS256") -> str:
    """Return a JWT; all algorithms but HS256 leave the signature empty."""
    signed = f"{_part({'alg': algorithm, 'typ': 'JWT'})}.{_part(claims)}"
    digest = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest() if algorithm == "HS256" else b""
    return f"{signed}.{_text(digest)}"


def _part(value: Mapping[str, Any]) -> str:
    return _text(json.dumps(dict(value), separators=(",", ":")).encode())


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def claims(site: Site, actor: str) -> dict[str, Any]:
    """Return what the token of a delivery claims; nothing in it binds the body."""
    now = site.clock()
    times = {"iat": int(now.timestamp()), "exp": int((now + TOKEN_LIFE).timestamp())}
    return {"iss": site.client_id, "sub": actor, "jti": f"jti-{now.timestamp()}", "context": {"user": {"accountId": actor}}, **times}


def signature(body: bytes, secret: str) -> str:
    """Return the X-Hub-Signature of a raw body."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def deliveries(site: Site, id_or_key: str, happening: Happening) -> list[Sent]:
    """Return what Jira sends of an event: to each living dynamic webhook whose filter fits, and to each admin's webhook."""
    with site.lock:
        issue = site.issue(id_or_key)
        body = body_of(site, issue, happening)
        bearer = {"Authorization": f"Bearer {token(claims(site, happening.actor), site.client_secret)}"}
        fitting = [hook for hook in site.webhooks.values() if _fits(site, hook, issue, happening.event)]
        sent = [Sent(hook.url, _headers(site) | bearer, body) for hook in fitting]
        admins = [hook for hook in site.admin_webhooks if happening.event in hook.events]
        return sent + [Sent(hook.url, _headers(site) | {"X-Hub-Signature": signature(body, hook.secret)}, body) for hook in admins]


def _fits(site: Site, hook: Webhook, issue: Issue, event: str) -> bool:
    projects = re.findall(r"[A-Z][A-Z0-9_]+", hook.jql_filter.partition("(")[2] or hook.jql_filter.partition("=")[2])
    return event in hook.events and issue.project in projects and hook.expires > site.clock()


def _headers(site: Site) -> dict[str, str]:
    number = next(site.deliveries_sent)
    return {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Atlassian Webhook HTTP Client",
        "X-Atlassian-Webhook-Identifier": f"identifier-{number}",
        "X-Atlassian-Webhook-Flow": "Primary",
        "X-Atlassian-Webhook-Trace": f"trace-{number}",
    }
