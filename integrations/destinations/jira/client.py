"""Jira's REST API v3: one method per endpoint, and one table of what its refusals mean.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro/
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from integrations.core.errors import ConnectorError, Disconnected, Missing, Rejected, Transient
from integrations.http import RETRY_AFTER_MOST, Answer, ApiClient, retry_after

REST = "/rest/api/3"
MOST_PAGES = 50
_QUIET = {"notifyUsers": "false", "adjustEstimate": "leave"}


class RefusedError(Rejected):
    """Jira refuses the content of a request (400); `fields` holds its reason per field id."""

    code = "refused"

    def __init__(self, message: str, *, words: str = "", fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message, words=words)
        self.fields = dict(fields or {})


@dataclass(frozen=True, slots=True)
class Case:
    """One known refusal: how to tell it (status, part of the body, a header) and what happens next.

    `says` is searched in the body in lower case, `header` must be there, with a value that begins with `value`.
    `wait` is added to now when the answer names no time itself.
    """

    status: int
    error: type[ConnectorError]
    code: str
    why: str
    says: str = ""
    header: str = ""
    value: str = ""
    scope: str = ""
    wait: timedelta = timedelta()

    def fits(self, answer: Answer, words: str) -> bool:
        """Say whether an answer is this case."""
        told = answer.headers.get(self.header) if self.header else ""
        return answer.status == self.status and self.says in words.lower() and told is not None and told.startswith(self.value)


_REASON = "RateLimit-Reason"
# https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro/#status-codes
# https://developer.atlassian.com/cloud/jira/platform/rate-limiting/
CASES = (
    Case(401, Disconnected, "scope", "the grant lacks a scope; another token of the same grant lacks it too", says="scope does not match"),
    Case(401, Disconnected, "unauthorized", "the token is dead, and renewing it did not help"),
    Case(403, Disconnected, "captcha", "the login is locked until its owner solves a CAPTCHA", header="x-authentication-denied-reason"),
    Case(403, Rejected, "forbidden", "the account lacks a permission in the project"),
    Case(404, Missing, "missing", "gone, moved away or hidden: the caller finds out which"),
    Case(408, Transient, "timeout", "the gateway gave up waiting"),
    Case(409, Transient, "conflict", "another write of the same issue was under way"),
    Case(410, Rejected, "removed", "the operation was taken out of the API"),
    Case(413, Rejected, "issue_full", "the issue has all the worklogs or comments that it can have"),
    Case(422, Rejected, "workflow", "the workflow or configuration forbids it"),
    Case(
        429,
        Transient,
        "issue_rate",
        "too many writes on one issue",
        header=_REASON,
        value="jira-per-issue-on-write",
        scope="object",
        wait=timedelta(seconds=2),
    ),
    Case(429, Transient, "quota", "the hour's points are used up, for all calls", header=_REASON, value="jira-quota", scope="connection"),
    Case(
        429,
        Transient,
        "burst",
        "too many calls in a second",
        header=_REASON,
        value="jira-burst",
        scope="connection",
        wait=timedelta(seconds=5),
    ),
    Case(429, Transient, "rate", "another limit, or the gateway's, which names none"),
)


def unauthorized(answer: Answer) -> bool:
    """Say whether new credentials may help: they do not where the grant lacks a scope, so no refresh loop."""
    return answer.status == 401 and "scope does not match" not in _words(answer).lower()


def refusal(method: str, path: str, answer: Answer) -> ConnectorError:
    """Return the error that an answer means; unknown ones are refusals, 3xx and 5xx pass."""
    words = _words(answer)
    message = f"{method} {path}: {answer.status}"
    if answer.status == 400:
        errors = answer.data.get("errors") if isinstance(answer.data, dict) else None
        return RefusedError(message, words=words, fields=_texts(errors))
    for case in CASES:
        if case.fits(answer, words):
            return _error(case, f"{message} {case.why}", answer, words)
    if 300 <= answer.status < 400 or answer.status >= 500:
        return Transient(message, code="unavailable", words=words, not_before=retry_after(answer.headers))
    return Rejected(message, words=words)


def _error(case: Case, message: str, answer: Answer, words: str) -> ConnectorError:
    if case.error is Transient:
        return Transient(
            message, code=case.code, words=words, scope=case.scope, not_before=_not_before(case, answer), unsent=answer.status == 429
        )
    return case.error(message, code=case.code, words=words)


def _not_before(case: Case, answer: Answer) -> datetime | None:
    now = datetime.now(UTC)
    asked = retry_after(answer.headers, now=now)
    if case.code == "quota":
        return max(_reset(answer.headers, now), asked or now)
    return asked or (now + case.wait if case.wait else None)


def _reset(headers: Mapping[str, str], now: datetime) -> datetime:
    """Return when the quota is filled up: the time in X-RateLimit-Reset, else the next full hour (UTC)."""
    next_hour = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    try:
        reset = datetime.fromisoformat(headers.get("X-RateLimit-Reset", ""))
    except ValueError:
        return next_hour
    reset = reset if reset.tzinfo else reset.replace(tzinfo=UTC)
    return reset if now < reset <= now + RETRY_AFTER_MOST else next_hour


def _words(answer: Answer) -> str:
    """Return what Jira says, in whichever of its shapes."""
    if not isinstance(answer.data, dict):
        return answer.text
    listed = answer.data.get("errorMessages")
    messages = [str(text) for text in listed] if isinstance(listed, list) else []
    single = [str(answer.data[name]) for name in ("message", "errorMessage") if answer.data.get(name)]
    return "; ".join([*messages, *single, *(f"{name}: {text}" for name, text in _texts(answer.data.get("errors")).items())])


def _texts(errors: Any) -> dict[str, str]:
    return {str(name): str(text) for name, text in errors.items()} if isinstance(errors, dict) else {}


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
        body: dict[str, Any] = {"jql": jql, "maxResults": size, "fields": list(fields), "properties": list(properties)}
        for _ in range(MOST_PAGES):
            answer = self._object("POST", "/search/jql", body=body)
            yield from answer.get("issues") or []
            # A page may be shorter than asked, even empty: only isLast tells the end, and it comes without a token.
            if answer.get("isLast", True) or not answer.get("nextPageToken"):
                return
            body["nextPageToken"] = answer["nextPageToken"]

    def create_issue(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an issue. There is no idempotency key: without an answer, look before trying again.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-post
        """
        answer = self._object("POST", "/issue", body=body)
        if not answer.get("id"):
            raise Transient(f"POST {REST}/issue: no id in the answer", code="no_json")
        return answer

    def edit_issue(self, issue: str, body: Mapping[str, Any], *, returning: bool = False) -> dict[str, Any]:
        """Edit an issue; return it when asked for, else an empty dict.

        https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-issues/#api-rest-api-3-issue-issueidorkey-put
        """
        data = self._send("PUT", f"/issue/{number(issue)}", query={"returnIssue": "true"} if returning else None, body=body)
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
