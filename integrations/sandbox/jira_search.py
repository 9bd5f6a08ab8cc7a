"""Answer searches: bounded JQL, pages by token, and an index that lags behind.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-search/
https://developer.atlassian.com/cloud/jira/platform/search-and-reconcile/
"""

import base64
import binascii
from typing import Any

from integrations.sandbox import jira_shapes as shapes
from integrations.sandbox.jira_issues import chosen_properties, listed
from integrations.sandbox.jira_jql import parse
from integrations.sandbox.jira_site import Issue, RefusedError, Site, members
from integrations.sandbox.server import Request, Response

DEFAULT_PAGE = 50
MOST_IDS = 5_000
MOST_PROPERTIES = 5
MOST_RECONCILED = 50


def search_post(site: Site, request: Request) -> Response:
    """Search with a JSON body."""
    return Response(200, _search(site, members(request)))


def search_get(site: Site, request: Request) -> Response:
    """Search with query parameters."""
    body: dict[str, Any] = {"jql": request.arg("jql"), "fields": listed(request, "fields"), "properties": listed(request, "properties")}
    for name in ("maxResults", "nextPageToken"):
        if request.arg(name):
            body[name] = int(request.arg(name)) if name == "maxResults" and request.arg(name).isdecimal() else request.arg(name)
    body["reconcileIssues"] = [int(number) for number in listed(request, "reconcileIssues") if number.isdecimal()]
    return Response(200, _search(site, body))


def search_anonymously(site: Site, request: Request) -> Response:
    """Answer a caller without credentials: a 200 that proves nothing."""
    return Response(200, {"issues": [], "isLast": True})


def search_old(site: Site, request: Request) -> Response:
    """Refuse the removed search."""
    raise RefusedError(410, "The requested API has been removed. Please migrate to the /rest/api/3/search/jql API.")


def _search(site: Site, body: dict[str, Any]) -> dict[str, Any]:
    jql, fields, properties = body.get("jql"), body.get("fields") or [], body.get("properties") or []
    if not isinstance(jql, str):
        raise RefusedError(400, "The 'jql' member must be a string.")
    if not _are_names(fields) or not _are_names(properties) or len(properties) > MOST_PROPERTIES:
        raise RefusedError(400, "'fields' and 'properties' must be lists of names; at most 5 properties can be asked for.")
    found = parse(site, jql).run(_visible(site, body.get("reconcileIssues") or []))
    start = _start(jql, body.get("nextPageToken"))
    end = start + min(_size(body), MOST_IDS if set(fields) <= {"id", "key"} else site.page_limit)
    issues = [_found(site, issue, fields) | _properties(issue, properties) for issue in found[start:end]]
    return {"issues": issues, "isLast": end >= len(found)} | ({"nextPageToken": _token(jql, end)} if end < len(found) else {})


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _visible(site: Site, reconciled: list[Any]) -> list[Issue]:
    if not isinstance(reconciled, list) or len(reconciled) > MOST_RECONCILED:
        raise RefusedError(400, "At most 50 issues can be reconciled.")
    if "BROWSE_PROJECTS" not in site.permissions:
        return []
    known = {str(number) for number in reconciled}
    return [issue for issue in site.issues.values() if issue.id in known or site.indexed(issue)]


def _found(site: Site, issue: Issue, fields: list[str]) -> dict[str, Any]:
    return {"id": issue.id} if set(fields) <= {"id"} else shapes.issue(site, issue, fields)


def _properties(issue: Issue, names: list[str]) -> dict[str, Any]:
    return {"properties": chosen_properties(issue, names)} if names else {}


def _size(body: dict[str, Any]) -> int:
    size = body.get("maxResults", DEFAULT_PAGE)
    if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= MOST_IDS:
        raise RefusedError(400, f"'maxResults' must be between 1 and {MOST_IDS}.")
    return size


def _token(jql: str, start: int) -> str:
    return base64.urlsafe_b64encode(f"{start} {jql}".encode()).decode()


def _start(jql: str, token: Any) -> int:
    if token is None:
        return 0
    try:
        start, _, asked = base64.urlsafe_b64decode(str(token)).decode().partition(" ")
    except (binascii.Error, UnicodeDecodeError):
        start, asked = "", ""
    if asked != jql or not start.isdecimal():
        raise RefusedError(400, "The provided next page token is invalid or has expired.")
    return int(start)


ROUTES = (
    ("POST", "/search/jql", search_post),
    ("GET", "/search/jql", search_get),
    ("GET", "/search", search_old),
    ("POST", "/search", search_old),
)
