"""The stand-in for Jira Cloud (REST v3), strict about what Jira is strict about.

/rest/api/3 is the site (API token), /ex/<cloud id>/rest/api/3 the gateway (OAuth), /auth and /api are Atlassian's own.
https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro/
"""

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from integrations.sandbox import jira_issues, jira_search, jira_setup, jira_webhooks, jira_worklogs
from integrations.sandbox.jira_access import Family, Grants, authorize, bearer, is_api_token, missing_scopes, token
from integrations.sandbox.jira_page import board
from integrations.sandbox.jira_rates import REST, limited
from integrations.sandbox.jira_site import Issue, RefusedError, Site, stamp, utc_now
from integrations.sandbox.jira_webhooks import Happening, Sent
from integrations.sandbox.server import Call, Request, Response

SCOPES = ("read:jira-work", "write:jira-work", "read:jira-user", "manage:jira-webhook", "offline_access")
_GATEWAY = re.compile(r"/ex/([^/]+)(/.*)")


class Jira(Site):
    """The stand-in: routes and credentials around the state that Site keeps."""

    def __init__(self, clock: Callable[[], datetime] = utc_now, **options: Any) -> None:
        super().__init__(clock, **options)
        self.grants = Grants(lambda: self.clock())
        self.route("GET", "/", lambda request: Response(200, board(self)))
        self.route("GET", "/auth/authorize", functools.partial(authorize, self, self.grants))
        self.route("POST", "/auth/authorize", functools.partial(authorize, self, self.grants))
        self.route("POST", "/auth/oauth/token", functools.partial(token, self, self.grants))
        self.route("GET", "/api/oauth/token/accessible-resources", self.list_resources)
        for module in (jira_setup, jira_search, jira_worklogs, jira_webhooks, jira_issues):
            for method, pattern, handler in module.ROUTES:
                self.route(method, REST + pattern, functools.partial(handler, self))

    def handle(self, request: Request) -> Response:
        """Check credentials, scopes, body type and rate before the handlers run."""
        try:
            with self.lock:
                request, anonymous = self._admitted(request)
                if anonymous:
                    return self._answer_anonymous(request)
                refused, told = limited(self, request)
                answer = refused or super().handle(request)
                return replace(answer, headers=told | answer.headers)
        except RefusedError as refusal:
            return Response(refusal.status, refusal.body)
        except _ShutOutError as shut_out:
            return shut_out.response

    def _admitted(self, request: Request) -> tuple[Request, bool]:
        """Return the request with a site's path, and whether its caller is unknown; raise _ShutOutError."""
        gateway = _GATEWAY.fullmatch(request.path)
        if gateway:
            self._check_bearer(request, gateway[1], gateway[2])
            request = replace(request, path=gateway[2])
        elif not request.path.startswith(REST):
            return request, False
        elif "authorization" not in request.headers:
            return request, True
        elif not is_api_token(self, request):
            # A real site answers no JSON here.
            raise _ShutOutError(Response(401, "Client must be authenticated to access this resource."))
        elif request.path.startswith(f"{REST}/webhook"):
            raise RefusedError(403, "Only Connect and OAuth 2.0 apps can use this operation.")
        if request.body and not request.headers.get("content-type", "").startswith("application/json"):
            raise RefusedError(415, "Unsupported Media Type")
        return request, False

    def _check_bearer(self, request: Request, cloud_id: str, path: str) -> None:
        family = self.grants.family(bearer(request))
        if family is None:
            raise _ShutOutError(Response(401, {"code": 401, "message": "Unauthorized"}))
        if cloud_id not in {site["id"] for site in self.all_sites()} or not family.reaches(cloud_id):
            raise _ShutOutError(Response(404, {"code": 404, "message": "Not Found"}))
        if missing_scopes(request, path.removeprefix(REST), family.scopes):
            raise _ShutOutError(Response(401, {"code": 401, "message": "Unauthorized; scope does not match"}))

    def _answer_anonymous(self, request: Request) -> Response:
        # Many reads are open to everybody: an empty 200 says nothing about a login.
        if request.path == f"{REST}/search/jql":
            return jira_search.search_anonymously(self, request)
        if request.method == "GET" and request.path == f"{REST}/project/search":
            return Response(200, {"startAt": 0, "maxResults": 50, "total": 0, "isLast": True, "values": []})
        if request.method == "GET" and request.path == f"{REST}/serverInfo":
            return super().handle(request)
        raise _ShutOutError(Response(401, {"message": "Client must be authenticated to access this resource.", "status-code": 401}))

    def list_resources(self, request: Request) -> Response:
        """Return the sites that the token reaches."""
        family = self.grants.family(bearer(request))
        if family is None:
            return Response(401, {"code": 401, "message": "Unauthorized"})
        granted = {"scopes": sorted(family.scopes - {"offline_access"}), "avatarUrl": f"{self.url}/avatar.png"}
        return Response(200, [granted | site for site in self.all_sites() if family.reaches(site["id"])])

    def grant(self, scopes: Iterable[str] = SCOPES) -> dict[str, Any]:
        """Return a token answer as after a consent, for tests that do not walk through the browser."""
        with self.lock:
            return self.grants.issue(Family(frozenset(scopes)), rotate=True)

    def deliveries(self, id_or_key: str, happening: Happening) -> list[Sent]:
        """Return what is sent to all webhooks of the event; of a deletion, call it before the issue is gone."""
        return jira_webhooks.deliveries(self, id_or_key, happening)

    def writes(self) -> list[Call]:
        """Return the logged calls that change something; a search is a POST and changes nothing."""
        return [call for call in super().writes() if not call.path.endswith(("/search/jql", "/issue/bulkfetch"))]

    def state(self) -> dict[str, Any]:
        """Return issues by key, fields, webhooks and violations."""
        with self.lock:
            return {
                "issues": {issue.key: self._dump(issue) for issue in sorted(self.issues.values(), key=lambda issue: int(issue.id))},
                "fields": [{"id": entry.id, "name": entry.name, "kind": entry.kind} for entry in self.fields.values() if entry.custom],
                "webhooks": [
                    {"id": hook.id, "url": hook.url, "events": hook.events, "jqlFilter": hook.jql_filter, "expires": stamp(hook.expires)}
                    for hook in self.webhooks.values()
                ],
                "violations": list(self.violations),
            }

    def _dump(self, issue: Issue) -> dict[str, Any]:
        return {
            "id": issue.id,
            "type": issue.type,
            "status": issue.status,
            "summary": issue.values.get("summary"),
            "labels": issue.values.get("labels", []),
            "duedate": issue.values.get("duedate"),
            "description": issue.values.get("description"),
            "fields": {self.fields[name].name: issue.values[name] for name in sorted(issue.values) if self.fields[name].custom},
            "properties": dict(sorted(issue.properties.items())),
            "worklogs": [
                {
                    "id": log.id,
                    "timeSpentSeconds": log.seconds,
                    "started": stamp(log.started),
                    "comment": log.comment,
                    "properties": log.properties,
                }
                for log in issue.worklogs
            ],
            "comments": [{"id": comment.id, "body": comment.body} for comment in issue.comments],
            "links": [dict(link) for link in issue.links],
        }


class _ShutOutError(Exception):
    """The caller is not let in; the response is no error collection."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response
