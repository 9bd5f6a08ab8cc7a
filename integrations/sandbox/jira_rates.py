"""Jira's three systems of limits, each with a reason of its own; all are off until a test sets them.

https://developer.atlassian.com/cloud/jira/platform/rate-limiting/
"""

import re
from datetime import datetime, timedelta

from integrations.sandbox.jira_site import Site
from integrations.sandbox.server import Request, Response
from integrations.sandbox.windows import FixedWindow, next_hour

REST = "/rest/api/3"
BODY = {"errorMessages": ["Rate limit exceeded."], "errors": {}}
_WINDOW = timedelta(seconds=2)
_ONE_ISSUE = re.compile(rf"{REST}/issue/(?!bulk$|bulkfetch$|createmeta/)([^/]+)(/.*)?")


def limited(site: Site, request: Request) -> tuple[Response | None, dict[str, str]]:
    """Return the refusal of a request beyond a limit, if it is one, and what the headers of its answer tell."""
    now = site.clock()
    told: dict[str, str] = {}
    if not request.path.startswith(REST):
        return None, told
    for refused, headers in (_quota(site, now), _burst(site, request, now)):
        told |= headers
        if refused:
            return Response(429, BODY, headers), told
    return _per_issue(site, request, now), told


def _quota(site: Site, now: datetime) -> tuple[bool, dict[str, str]]:
    if not site.points_per_hour:
        return False, {}
    taken = site.quota.take(site.points_per_hour, next_hour(now), now=now)
    left, wait = site.points_per_hour - site.quota.used, site.quota.seconds_left(now)
    told = {
        "RateLimit-Policy": f'"global-app-quota";q={site.points_per_hour};w=3600',
        "RateLimit": f'"global-app-quota";r={left};t={wait}',
    }
    refusal = {"Retry-After": str(wait), "RateLimit-Reason": "jira-quota-global-based"}
    return not taken, told if taken else told | refusal


def _burst(site: Site, request: Request, now: datetime) -> tuple[bool, dict[str, str]]:
    if not site.burst_per_second:
        return False, {}
    endpoint = f"{request.method} {re.sub(r'[^/]*[0-9][^/]*', '*', request.path.removeprefix(REST))}"
    window = site.bursts.setdefault(endpoint, FixedWindow())
    taken = window.take(site.burst_per_second, now + timedelta(seconds=1), now=now)
    told = {
        "X-RateLimit-Limit": str(site.burst_per_second),
        "X-RateLimit-Remaining": str(site.burst_per_second - window.used),
        "X-RateLimit-Reset": window.ends.isoformat(),
    }
    return not taken, told if taken else told | {"Retry-After": "1", "RateLimit-Reason": "jira-burst-based"}


def _per_issue(site: Site, request: Request, now: datetime) -> Response | None:
    match = _ONE_ISSUE.fullmatch(request.path)
    if not site.writes_per_issue or request.method == "GET" or not match:
        return None
    issue = site.issue(match[1])
    issue.writes = [at for at in issue.writes if now - at < _WINDOW]
    if len(issue.writes) < site.writes_per_issue:
        issue.writes.append(now)
        return None
    return Response(429, BODY, {"Retry-After": "2", "RateLimit-Reason": "jira-per-issue-on-write", "X-RateLimit-Remaining": "0"})
