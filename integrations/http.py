"""ApiClient: one request at a time, with time-outs, the 401 rule, a record of each exchange, and errors without secrets."""

import base64
import email.utils
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlencode

import requests
from requests.exceptions import ConnectTimeout, RequestException

from integrations.core.errors import Transient

RETRY_AFTER_MOST = timedelta(days=7)  # more is taken for a vendor's mistake: a Unix time in place of seconds
SECRET_LEAST = 6  # characters; what is shorter stands in ordinary text too
OUT_OF_TIME = "budget"
REQUEST_ID_HEADERS = ("x-request-id", "x-zendesk-request-id", "x-arequestid", "atl-traceid")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: `data` is the parsed JSON body, None when it was empty or no JSON (then see `text`)."""

    status: int
    data: Any
    text: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300

    @property
    def refusal_is_cut(self) -> bool:
        """Whether it refuses in JSON that does not come to its end: what is refused is not known, so it must be asked again."""
        return 400 <= self.status < 500 and self.status not in (401, 429) and self.data is None and self.text.lstrip()[:1] in ("{", "[")


class Auth(Protocol):
    """The credentials of a connection, kept fresh."""

    def headers(self) -> dict[str, str]:
        """Return the headers that prove who we are now."""

    def renew(self, stale: dict[str, str]) -> bool:
        """Get credentials other than the stale ones, once, across all workers; False when there are no others.

        Raises Disconnected when the grant is dead, Transient when that cannot be told now.
        """


class Recorder(Protocol):
    """Keeps a record of each exchange: method, path without query, status, milliseconds, request id."""

    def sending(self, method: str, path: str) -> Any:
        """Note a request that is about to go out; the token is handed to `answered`."""

    def answered(self, token: Any, status: int | None, milliseconds: int, request_id: str) -> None:
        """Note the answer, or with a status of None that none came."""


class Silent:
    """A recorder that keeps nothing: pings and provisioning are not attempts."""

    def sending(self, method: str, path: str) -> Any:
        """Keep nothing."""

    def answered(self, token: Any, status: int | None, milliseconds: int, request_id: str) -> None:
        """Keep nothing."""


Gate = Callable[[str, str], AbstractContextManager[Callable[[Answer], None]]]


@contextmanager
def _open(method: str, path: str) -> Iterator[Callable[[Answer], None]]:
    yield lambda answer: None


def _plain_401(answer: Answer) -> bool:
    return answer.status == 401


@dataclass(slots=True)
class ApiClient:
    """HTTP to one account.

    It never repeats a request, except once after a 401 with renewed credentials: an unauthorized request was not
    carried out. `unauthorized` tells such answers apart where the vendor says it otherwise. `gate` is entered, with method
    and path, around each request and yields what takes its answer; it may raise Transient (limits). `deadline` is a
    time.monotonic() after which nothing is sent.
    """

    base_url: str
    auth: Auth
    session: requests.Session
    recorder: Recorder = field(default_factory=Silent)
    timeout: tuple[float, float] = (3.0, 8.0)
    unauthorized: Callable[[Answer], bool] = _plain_401
    gate: Gate = _open
    deadline: float | None = None

    def send(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request and return its answer, whatever the status. `body` is sent as JSON.

        Raises Transient when no answer came (`unsent` when it surely did not go out), Disconnected from the 401 rule.
        """
        credentials = self.auth.headers()
        answer = self._send(method, path, query, body, {**(headers or {}), **credentials})
        if self.unauthorized(answer) and self.auth.renew(credentials):
            answer = self._send(method, path, query, body, {**(headers or {}), **self.auth.headers()})
        return answer

    def _send(self, method: str, path: str, query: Mapping[str, Any] | None, body: Any, headers: dict[str, str]) -> Answer:
        self._check_time(method, path)
        with self.gate(method, path) as tell:
            answer = self._exchange(method, path, query, body, headers)
            tell(answer)
            return answer

    def _check_time(self, method: str, path: str) -> None:
        if self.deadline is not None and time.monotonic() >= self.deadline:
            soon = datetime.now(UTC) + timedelta(seconds=1)
            raise Transient(f"{method} {path}: the run's time is used up", code=OUT_OF_TIME, not_before=soon, counted=False, unsent=True)

    def _exchange(self, method: str, path: str, query: Mapping[str, Any] | None, body: Any, headers: dict[str, str]) -> Answer:
        token = self.recorder.sending(method, path)
        started = time.monotonic()
        response = None
        try:
            # The last thing before: gate and entry may have waited, and the claim under which this is written has not.
            self._check_time(method, path)
            response = self._request(method, path, query, body, headers)
            return _answer(response, headers)
        finally:
            elapsed = round((time.monotonic() - started) * 1000)
            status = None if response is None else response.status_code
            self.recorder.answered(token, status, elapsed, "" if response is None else _request_id(response))

    def _request(self, method: str, path: str, query: Mapping[str, Any] | None, body: Any, headers: dict[str, str]) -> requests.Response:
        try:
            return self.session.request(
                method,
                self.base_url + path,
                params=_written(query),
                json=body,
                headers={"Accept": "application/json", "User-Agent": "ml-connector", **headers},
                timeout=self.timeout,
                allow_redirects=False,
            )
        except RequestException as error:
            # Only the class: the exception's text holds the URL with its query.
            unsent = isinstance(error, ConnectTimeout) or _refused(error)
            raise Transient(f"{method} {path}: {type(error).__name__}", code="no_answer", unsent=unsent) from None


def _written(query: Mapping[str, Any] | None) -> str | None:
    # Commas and colons may stand in a query as they are, so that a hundred keys in one address stay below the 8 KB that servers take.
    return urlencode({name: value for name, value in (query or {}).items() if value is not None}, safe=",:") or None


def _refused(error: RequestException) -> bool:
    return "NewConnectionError" in repr(error.args)


def _answer(response: requests.Response, sent: Mapping[str, str]) -> Answer:
    content = response.content
    for proof in _proofs(sent):
        # Some say back what was sent, and what a vendor says is kept and shown.
        content = content.replace(proof, b"[secret]")
    try:
        data = json.loads(content) if content else None
    except (ValueError, RecursionError):
        data = None
    return Answer(response.status_code, data, content.decode(errors="replace")[:2000] if data is None else "", response.headers)


def _proofs(headers: Mapping[str, str]) -> Iterator[bytes]:
    """Yield what of the headers is secret: the token, or the login as it is encoded and its password."""
    scheme, _, proof = headers.get("Authorization", "").partition(" ")
    found = [proof.encode()]
    if scheme == "Basic":
        with suppress(ValueError):
            found.append(base64.b64decode(proof).partition(b":")[2])
    yield from (secret for secret in found if len(secret) >= SECRET_LEAST)


def _request_id(response: requests.Response) -> str:
    return next((response.headers[name] for name in REQUEST_ID_HEADERS if name in response.headers), "")


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> datetime | None:
    """Return the time that a Retry-After header names (seconds or a date), at most a week ahead; None where it names none to come.

    A date is the vendor's: where the answer says what time it is there, a clock of ours that is ahead shortens no wait.
    Zero, a negative number and a time gone by are no answer to when: the caller then waits what it thinks right.
    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    now = now or datetime.now(UTC)
    given = headers.get("Retry-After", "").strip()
    wait = _seconds(given)
    if wait is None and (until := _date(given)) is not None:
        wait = max((until - now).total_seconds(), (until - (_date(headers.get("Date", "")) or now)).total_seconds())
    if wait is None or not wait > 0:
        return None
    return now + timedelta(seconds=min(wait, RETRY_AFTER_MOST.total_seconds()))


def _seconds(given: str) -> float | None:
    try:
        return float(given)
    except ValueError:
        return None


def _date(given: str) -> datetime | None:
    parsed = email.utils.parsedate_tz(given)
    if parsed is None:
        return None
    try:
        return datetime.fromtimestamp(email.utils.mktime_tz(parsed), UTC)
    except (ValueError, OverflowError):
        return None
