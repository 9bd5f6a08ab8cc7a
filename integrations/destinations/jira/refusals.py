"""What Jira's refusals mean: one table, and the errors that its rows become."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from integrations.core.errors import ConnectorError, Disconnected, Missing, Rejected, Transient
from integrations.http import RETRY_AFTER_MOST, Answer, retry_after


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
    if answer.refusal_is_cut:
        return Transient(f"{message} in a body cut short", code="cut_short", words=words)
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
