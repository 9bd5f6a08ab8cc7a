"""Jira's REST API v3: one method per endpoint.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro/
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from integrations.core.errors import Missing, Rejected, Transient
from integrations.destinations.jira.refusals import refusal
from integrations.http import ApiClient

REST = "/rest/api/3"
MOST_PAGES = 50
_QUIET = {"notifyUsers": "false", "adjustEstimate": "leave"}


def part(value: str) -> str:
    """Return a value as one segment of a path."""
    return quote(value, safe="")


def number(value: str) -> str:
    """Return an id for a path; refuse all that is no number: a DELETE without an id would delete everything."""
    if not (value.isascii() and value.isdecimal()):
        raise Rejected("an id is missing, so nothing was sent", code="no_id")
    return value


@dataclass(frozen=True, slots=True)
class JiraClient:
    """The calls we make; answers are parsed JSON, failures are ConnectorErrors. Ids are numeric texts."""

    api: ApiClient

    def _send(self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None) -> Any:
        answer = self.api.send(method, REST + path, query=query, body=body)
        if not answer.ok:
            raise refusal(method, REST + path, answer)
        # A proxy's page or a cut body says nothing about whether the request was carried out.
        if answer.data is None and answer.text:
            raise Transient(f"{method} {REST}{path}: {answer.status} without JSON", code="no_json")
        return answer.data

    def _object(self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None) -> dict[str, Any]:
        data = self._send(method, path, query=query, body=body)
        if not isinstance(data, dict):
            raise Transient(f"{method} {REST}{path}: no JSON object in the answer", code="no_json")
        return data

    def _list(self, path: str) -> list[dict[str, Any]]:
        data = self._send("GET", path)
        if not isinstance(data, list):
            raise Transient(f"GET {REST}{path}: no JSON list in the answer", code="no_json")
        return data

    def _paged(self, path: str, member: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        start = 0
        for _ in range(MOST_PAGES):
            page = self._object("GET", path, query={**query, "startAt": start})
            found = page.get(member) or []
            yield from found
            start += len(found)
            if not found or start >= int(page.get("total", 0)):
                return
        raise Transient(f"GET {REST}{path}: more than {MOST_PAGES} pages", code="no_end")

    def myself(self) -> dict[str, Any]:
        """Return the caller.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-myself/#api-rest-api-3-myself-get
        """
        return self._object("GET", "/myself")

    def permissions(self, project: str, names: Sequence[str]) -> dict[str, bool]:
        """Return which of the permissions the caller has in the project.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-permissions/#api-rest-api-3-mypermissions-get
        """
        answer = self._object("GET", "/mypermissions", query={"projectKey": project, "permissions": ",".join(names)})
        found = answer.get("permissions") or {}
        return {name: bool((found.get(name) or {}).get("havePermission")) for name in names}

    def time_tracking(self) -> bool:
        """Say whether worklogs can be written at all.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-jira-settings/#api-rest-api-3-configuration-get
        """
        return bool(self._object("GET", "/configuration").get("timeTrackingEnabled"))

    def fields(self) -> list[dict[str, Any]]:
        """Return all fields of the site.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-fields/#api-rest-api-3-field-get
        """
        return self._list("/field")

    def create_field(self, body: Mapping[str, Any]) -> str:
        """Create a custom field and return its id; without the right Jira answers 400.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-fields/#api-rest-api-3-field-post
        """
        return str(self._object("POST", "/field", body=body)["id"])

    def add_to_default_screen(self, field_id: str) -> None:
        """Put a field on the default screen; raise Missing also when it is there already.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-screens/#api-rest-api-3-screens-addtodefault-fieldid-post
        """
        self._send("POST", f"/screens/addToDefault/{part(field_id)}")

    def issue_types(self, project: str) -> list[dict[str, Any]]:
        """Return the issue types that the caller can create in a project.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-createmeta-projectidorkey-issuetypes-get
        """
        return list(self._paged(f"/issue/createmeta/{part(project)}/issuetypes", "issueTypes", {}))

    def create_screen(self, project: str, issue_type_id: str) -> list[dict[str, Any]]:
        """Return the fields that can be set when creating an issue of a type.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-createmeta-projectidorkey-issuetypes-issuetypeid-get
        """
        return list(self._paged(f"/issue/createmeta/{part(project)}/issuetypes/{part(issue_type_id)}", "fields", {}))

    def project_statuses(self, project: str) -> list[dict[str, Any]]:
        """Return the issue types of a project, each with its statuses.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-projects/#api-rest-api-3-project-projectidorkey-statuses-get
        """
        return self._list(f"/project/{part(project)}/statuses")

    def search(self, jql: str, *, fields: Sequence[str], properties: Sequence[str], size: int) -> Iterator[dict[str, Any]]:
        """Return the issues that a bounded query finds; the index may be minutes behind.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-search/#api-rest-api-3-search-jql-post
        """
        token = ""
        for _ in range(MOST_PAGES):
            rows, token = self.search_page(jql, fields=fields, properties=properties, size=size, token=token)
            yield from rows
            if not token:
                return

    def search_page(
        self, jql: str, *, fields: Sequence[str], properties: Sequence[str], size: int, token: str = ""
    ) -> tuple[list[dict[str, Any]], str]:
        """Return one page of what a bounded query finds, and the token of the next one, "" on the last.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-search/#api-rest-api-3-search-jql-post
        """
        body: dict[str, Any] = {"jql": jql, "maxResults": size, "fields": list(fields), "properties": list(properties)}
        answer = self._object("POST", "/search/jql", body={**body, "nextPageToken": token} if token else body)
        # A page may be shorter than asked, even empty: only isLast tells the end, and it comes without a token.
        after = "" if answer.get("isLast", True) else str(answer.get("nextPageToken") or "")
        return list(answer.get("issues") or []), after

    def fetch_issues(
        self, ids: Sequence[str], *, fields: Sequence[str], properties: Sequence[str]
    ) -> tuple[list[dict[str, Any]], frozenset[str]]:
        """Return up to 100 issues by id, and the ids of those that Jira could not show just now; unknown ones are in neither.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-bulkfetch-post
        """
        body = {"issueIdsOrKeys": [number(one) for one in ids], "fields": list(fields), "properties": list(properties)}
        answer = self._object("POST", "/issue/bulkfetch", body=body)
        if not isinstance(answer.get("issues"), list):
            raise Transient(f"POST {REST}/issue/bulkfetch: no issues in the answer", code="no_json")
        return answer["issues"], frozenset(str(error.get("id")) for error in answer.get("issueErrors") or [])

    def create_issue(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an issue. There is no idempotency key: without an answer, look before trying again.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-post
        """
        answer = self._object("POST", "/issue", body=body)
        if not answer.get("id"):
            raise Transient(f"POST {REST}/issue: no id in the answer", code="no_json")
        return answer

    def create_issues(self, bodies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Create up to 50 issues; return `issues` and `errors`, which is a 201 if any and a 400 if none was created.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-bulk-post
        """
        path = f"{REST}/issue/bulk"
        answer = self.api.send("POST", path, body={"issueUpdates": list(bodies)})
        told = isinstance(answer.data, dict) and isinstance(answer.data.get("errors"), list)
        if not answer.ok and not (answer.status == 400 and told):
            raise refusal("POST", path, answer)
        if not isinstance(answer.data, dict):
            raise Transient(f"POST {path}: {answer.status} without JSON", code="no_json")
        return answer.data

    def edit_issue(self, issue: str, body: Mapping[str, Any], *, returning: bool = False, quiet: bool = False) -> dict[str, Any]:
        """Edit an issue; return it when asked for, else an empty dict. `quiet` tells its watchers nothing, which takes an administrator.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-issueidorkey-put
        """
        query = ({"returnIssue": "true"} if returning else {}) | ({"notifyUsers": "false"} if quiet else {})
        data = self._send("PUT", f"/issue/{number(issue)}", query=query or None, body=body)
        return data if isinstance(data, dict) else {}

    def issue(self, issue: str) -> dict[str, Any]:
        """Return an issue's status and type and what can be done from there; a moved one is found by its id.

        Raises Missing `lost`. https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-issueidorkey-get
        """
        query = {"fields": "status,issuetype", "expand": "transitions,transitions.fields"}
        with _lost():
            return self._object("GET", f"/issue/{number(issue)}", query=query)

    def transitions(self, issue: str) -> list[dict[str, Any]]:
        """Return what leaves the issue's status for the caller; without "Transition issues" that is nothing.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-issueidorkey-transitions-get
        """
        query = {"expand": "transitions.fields"}
        with _lost():
            return self._object("GET", f"/issue/{number(issue)}/transitions", query=query).get("transitions") or []

    def transition(self, issue: str, transition: str) -> None:
        """Take one transition.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-issueidorkey-transitions-post
        """
        self._send("POST", f"/issue/{number(issue)}/transitions", body={"transition": {"id": transition}})

    def worklogs(self, issue: str) -> list[dict[str, Any]]:
        """Return the worklogs of an issue with their properties; raise Missing `lost`.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-worklogs/#api-rest-api-3-issue-issueidorkey-worklog-get
        """
        query = {"expand": "properties", "maxResults": 1000}
        with _lost():
            return list(self._paged(f"/issue/{number(issue)}/worklog", "worklogs", query))

    def add_worklog(self, issue: str, body: Mapping[str, Any]) -> str:
        """Add a worklog that leaves the estimate alone and tells nobody; return its id.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-worklogs/#api-rest-api-3-issue-issueidorkey-worklog-post
        """
        return self._added(f"/issue/{number(issue)}/worklog", body, _QUIET)

    def edit_worklog(self, issue: str, worklog: str, body: Mapping[str, Any]) -> None:
        """Change a worklog.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-worklogs/#api-rest-api-3-issue-issueidorkey-worklog-id-put
        """
        self._send("PUT", f"/issue/{number(issue)}/worklog/{number(worklog)}", query=_QUIET, body=body)

    def delete_worklog(self, issue: str, worklog: str) -> None:
        """Delete one worklog. Without an id the same call would delete many, other people's too: `number` refuses that.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-worklogs/#api-rest-api-3-issue-issueidorkey-worklog-id-delete
        """
        self._send("DELETE", f"/issue/{number(issue)}/worklog/{number(worklog)}", query=_QUIET)

    def comments(self, issue: str) -> list[dict[str, Any]]:
        """Return the comments of an issue; raise Missing `lost`.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-comments/#api-rest-api-3-issue-issueidorkey-comment-get
        """
        with _lost():
            return list(self._paged(f"/issue/{number(issue)}/comment", "comments", {"maxResults": 100}))

    def add_comment(self, issue: str, body: Mapping[str, Any]) -> str:
        """Add a comment and return its id.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-comments/#api-rest-api-3-issue-issueidorkey-comment-post
        """
        return self._added(f"/issue/{number(issue)}/comment", body, {})

    def edit_comment(self, issue: str, comment: str, body: Mapping[str, Any]) -> None:
        """Change a comment.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-comments/#api-rest-api-3-issue-issueidorkey-comment-id-put
        """
        self._send("PUT", f"/issue/{number(issue)}/comment/{number(comment)}", body=body)

    def delete_comment(self, issue: str, comment: str) -> None:
        """Delete one comment.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issue-comments/#api-rest-api-3-issue-issueidorkey-comment-id-delete
        """
        self._send("DELETE", f"/issue/{number(issue)}/comment/{number(comment)}")

    def webhooks(self) -> list[dict[str, Any]]:
        """Return what this app has registered at the site; an expired webhook may stay listed.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-webhooks/#api-rest-api-3-webhook-get
        """
        return list(self._paged("/webhook", "values", {"maxResults": 100}))

    def register_webhook(self, url: str, events: Sequence[str], jql: str) -> str:
        """Register a webhook and return its id. Jira answers 200 even where it registers none: raise Rejected `not_registered`.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-webhooks/#api-rest-api-3-webhook-post
        """
        body = {"url": url, "webhooks": [{"events": list(events), "jqlFilter": jql}]}
        results = self._object("POST", "/webhook", body=body).get("webhookRegistrationResult")
        result = results[0] if isinstance(results, list) and results and isinstance(results[0], dict) else {}
        if not result.get("createdWebhookId"):
            words = "; ".join(str(text) for text in result.get("errors") or [])
            raise Rejected(f"POST {REST}/webhook: nothing was registered", code="not_registered", words=words)
        return str(result["createdWebhookId"])

    def refresh_webhooks(self, ids: Sequence[str]) -> None:
        """Give webhooks 30 more days. Unknown ids are ignored, so a success proves nothing.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-webhooks/#api-rest-api-3-webhook-refresh-put
        """
        self._send("PUT", "/webhook/refresh", body={"webhookIds": [int(number(one)) for one in ids]})

    def delete_webhooks(self, ids: Sequence[str]) -> None:
        """Remove webhooks; unknown ids are ignored.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-webhooks/#api-rest-api-3-webhook-delete
        """
        self._send("DELETE", "/webhook", body={"webhookIds": [int(number(one)) for one in ids]})

    @contextmanager
    def telling_lost(self, issue: str) -> Iterator[None]:
        """Find out, when a write to the issue meets a 404, whether it is gone (Missing `lost`) or we may not write it."""
        try:
            yield
        except Missing as error:
            self.issue(issue)
            raise Rejected(f"{error}; the issue can be read but not written", code="no_permission", words=error.words) from None

    def _added(self, path: str, body: Mapping[str, Any], query: Mapping[str, Any]) -> str:
        found = self._object("POST", path, query=query, body=body).get("id")
        if not found:
            raise Transient(f"POST {REST}{path}: no id in the answer", code="no_json")
        return str(found)


@contextmanager
def _lost() -> Iterator[None]:
    """Call a missing issue lost: its numeric id follows it wherever it moved."""
    try:
        yield
    except Missing as error:
        raise Missing(str(error), code="lost", words=error.words) from None
