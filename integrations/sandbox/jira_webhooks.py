"""Answer for dynamic webhooks, which only an OAuth app can register; nothing is delivered from here.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-webhooks/
"""

import re
from datetime import timedelta
from typing import Any

from integrations.sandbox.jira_site import RefusedError, Site, Webhook, members, page, stamp
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
    number = max(site.webhooks, default=999) + 1
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
        hook.expires = ends
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
