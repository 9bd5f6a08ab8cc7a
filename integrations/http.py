"""ApiClient: one request at a time, with time-outs, the 401 rule, a record of each exchange, and errors without secrets."""

import base64
import email.utils
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import requests
from requests.exceptions import ConnectTimeout, RequestException

from integrations.core.errors import Transient

RETRY_AFTER_MOST = timedelta(days=1)
SECRET_LEAST = 6  # characters; what is shorter stands in ordinary text too
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


def _plain_401(answer: Answer) -> bool:
    return answer.status == 401


@dataclass(slots=True)
class ApiClient:
    """HTTP to one account.

    It never repeats a request, except once after a 401 with renewed credentials: an unauthorized request was not
    carried out. `unauthorized` tells such answers apart where the vendor says it otherwise; `gate` is entered around
    each request and may raise Transient (rate limits); `deadline` is a time.monotonic() after which nothing is sent.
    """

    base_url: str
    auth: Auth
    session: requests.Session
    recorder: Recorder = field(default_factory=Silent)
    timeout: tuple[float, float] = (3.0, 8.0)
    unauthorized: Callable[[Answer], bool] = _plain_401
    gate: Callable[[], AbstractContextManager[Any]] = nullcontext
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
        if self.deadline is not None and time.monotonic() >= self.deadline:
            soon = datetime.now(UTC) + timedelta(seconds=1)
            raise Transient(f"{method} {path}: the run's time is used up", code="budget", not_before=soon, counted=False, unsent=True)
        with self.gate():
            token = self.recorder.sending(method, path)
            started = time.monotonic()
            response = None
            try:
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
                params=query,
                json=body,
                headers={"Accept": "application/json", "User-Agent": "ml-connector", **headers},
                timeout=self.timeout,
                allow_redirects=False,
            )
        except RequestException as error:
            # Only the class: the exception's text holds the URL with its query.
            unsent = isinstance(error, ConnectTimeout) or _refused(error)
            raise Transient(f"{method} {path}: {type(error).__name__}", code="no_answer", unsent=unsent) from None


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
    """Return the time that a Retry-After header names (seconds or a date), at most a day ahead, None without one.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    now = now or datetime.now(UTC)
    given = headers.get("Retry-After", "").strip()
    if not given:
        return None
    try:
        until = now + min(timedelta(seconds=float(given)), RETRY_AFTER_MOST)
    except (ValueError, OverflowError):
        parsed = email.utils.parsedate_tz(given)
        if parsed is None:
            return None
        try:
            until = datetime.fromtimestamp(email.utils.mktime_tz(parsed), UTC)
        except (ValueError, OverflowError):
            return None
    return min(max(until, now), now + RETRY_AFTER_MOST)
