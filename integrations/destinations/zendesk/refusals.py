"""What Zendesk's refusals mean: one table, and the errors that its rows become."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from integrations.core.errors import ConnectorError, Disconnected, Missing, Rejected, Transient
from integrations.http import Answer, retry_after

JOBS_WAIT = timedelta(seconds=30)
WAIT_WITHOUT_WORD = timedelta(seconds=10)  # what Zendesk's own Ruby client waits when a 429 names no time


@dataclass(frozen=True, slots=True)
class Case:
    """One known refusal: its status (0: any), what its signature matches, and what it becomes."""

    status: int
    pattern: str  # searched in `signature(answer)`, line by line
    error: type[ConnectorError]
    code: str
    says: str
    scope: str = ""


# The first row that fits decides. What no row knows is refused, 5xx and 3xx apart: see `refusal`.
CASES = (
    # 30 jobs of the account, ours or not, are queued or running; nothing was started. Its status is not documented.
    Case(0, r"^TooManyJobs\b", Transient, "too_many_jobs", "the account has all the jobs under way that it can have"),
    # The client has renewed the credentials once already, so the grant is dead.
    Case(401, "", Disconnected, "unauthorized", "the credentials are not accepted"),
    # Scope, role or plan; `refusal` names the right that is missing.
    Case(403, "", Rejected, "forbidden", "this account may not do that"),
    # RecordNotFound: deleted or merged. InvalidEndpoint: the plan does not have it.
    Case(404, "", Missing, "missing", "there is no such thing"),
    Case(408, "", Transient, "timeout", "took too long"),
    # DatabaseConflict, DatabaseDeadlock: a race inside Zendesk; all our creates are upserts, so a repetition is safe.
    Case(409, "", Transient, "conflict", "collided with another change"),
    # Organization names are unique in an account, compared without case.
    Case(422, r"^name:DuplicateValue|^name:.*already been taken", Rejected, "name_taken", "the name is taken"),
    # Another object carries our key: a person copied it, for Zendesk's own upsert would have found it.
    Case(422, r"^external_id:DuplicateValue|^external_id:.*already been taken", Rejected, "key_taken", "another object carries the key"),
    # An address belongs to one user only; seen with and without the code.
    Case(422, r"^email:DuplicateValue|^email:.*already being used", Rejected, "email_taken", "another user has the e-mail address"),
    # A field or custom object of that key exists.
    Case(422, r"^key:DuplicateValue|^key:.*already been taken", Rejected, "exists", "exists already"),
    Case(422, "", Rejected, "invalid", "a value is not accepted"),
    # 5 updates a minute per organization; per user likewise, in plain text.
    Case(429, r"requests to update|for updating", Transient, "rate_limited", "too many updates of this object", "object"),
    # The plan's requests per minute, shared with the account's other tools.
    Case(429, r"(?i)API requests per minute", Transient, "rate_limited", "the account's requests are used up", "connection"),
)

RIGHTS = {
    "organizations": "organizations:read and organizations:write, and an agent who may change organizations (not only their notes)",
    "organization_memberships": "users:write and organizations:write, and an agent who may change users",
    "organization_fields": "write, and an admin: only admins may change organization fields",
    "users": "users:read and users:write, and an agent who may change users",
    "custom_objects": "custom_objects:read and custom_objects:write, a plan with custom objects, and for set-up an admin",
}


def signature(answer: Answer) -> str:
    """Return the vendor's words, one line per problem, `<member>:<code> <description>` for validation errors.

    The envelopes differ from endpoint to endpoint, and plain text comes too: unknown shapes yield what text they have.
    """
    data = answer.data
    if not isinstance(data, dict):
        return answer.text
    if isinstance(data.get("details"), dict):
        return "\n".join(_detail_lines(data["details"]))
    if isinstance(data.get("errors"), list):
        return "\n".join(_joined(entry, "code", "title", "detail") for entry in data["errors"])
    if isinstance(data.get("error"), dict):
        return _joined(data["error"], "title", "message")
    return _joined(data, "error", "description", "error_description")


def _detail_lines(details: Mapping[str, Any]) -> Iterator[str]:
    for member, problems in details.items():
        for problem in problems if isinstance(problems, list) else [problems]:
            code = problem.get("error", "") if isinstance(problem, dict) else ""
            yield f"{member}:{code} {_joined(problem, 'description')}"


def _joined(entry: Any, *members: str) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    return " ".join(str(entry[member]) for member in members if entry.get(member))


def refusal(method: str, path: str, answer: Answer) -> ConnectorError:
    """Return the error that an answer other than 2xx stands for."""
    words = signature(answer)
    if answer.refusal_is_cut:
        return Transient(f"{method} {path}: {answer.status} in a body cut short", code="cut_short", words=words)
    found = next((case for case in CASES if case.status in (0, answer.status) and re.search(case.pattern, words, re.MULTILINE)), None)
    begin = f"{method} {path}: {answer.status}"
    if found is None:
        return _unknown(method, begin, answer, words)
    if found.code == "forbidden":
        return Rejected(f"{begin} {found.says}", code=found.code, words=f"needs {right(path)}. {words}")
    if found.code == "too_many_jobs":
        later = retry_after(answer.headers) or datetime.now(UTC) + JOBS_WAIT
        return Transient(f"{begin} {found.says}", code=found.code, words=words, not_before=later, unsent=True)
    if found.error is Transient:
        until = _until(answer) if answer.status == 429 else retry_after(answer.headers)
        return Transient(
            f"{begin} {found.says}", code=found.code, words=words, not_before=until, scope=found.scope, unsent=answer.status == 429
        )
    return found.error(f"{begin} {found.says}", code=found.code, words=words)


def _unknown(method: str, begin: str, answer: Answer, words: str) -> ConnectorError:
    if answer.status == 429:
        # Without known words: a write has most likely met the limit of its own object, a read that of the account.
        scope = "connection" if method == "GET" else "object"
        return Transient(
            f"{begin} too many requests", code="rate_limited", words=words, not_before=_until(answer), scope=scope, unsent=True
        )
    if answer.status >= 500:
        return Transient(f"{begin} Zendesk has a problem", code="server_error", words=words, not_before=retry_after(answer.headers))
    if answer.status < 400:
        # Never followed: a redirect would carry the credentials to another host.
        return Transient(f"{begin} a redirect instead of an answer", code="redirected")
    return Rejected(f"{begin} refused", code="refused", words=words)


def _until(answer: Answer) -> datetime:
    return retry_after(answer.headers) or datetime.now(UTC) + WAIT_WITHOUT_WORD


def right(path: str) -> str:
    """Return what a path asks of the token and its user, in our words."""
    area = path.removeprefix("/api/v2/").split("/")[0]
    return RIGHTS.get(area, f"the right to use {area}")
