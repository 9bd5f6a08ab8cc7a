"""The stand-in for Wave Accounting: GraphQL, OAuth, a page to look at, and the story for other processes."""

import collections
import itertools
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import requests

from integrations.sandbox import wave_webhooks
from integrations.sandbox.consent_page import DENIED, answered, back, consent_page
from integrations.sandbox.server import Request, Response
from integrations.sandbox.wave_graphql import View, answer, refusal
from integrations.sandbox.wave_ledger import Invoice, Ledger, split_id, story
from integrations.sandbox.wave_money import amount_text
from integrations.sandbox.wave_oauth import SCOPE, Grant, Grants, OAuthError
from integrations.sandbox.wave_page import page

GRAPHQL = "/graphql/public"
OPTIONS = frozenset({"consent_at_once", "rotate_refresh", "expires_in", "refresh_refused", "max_concurrent", "max_per_minute", "latency"})
CLIENT_ID = "wave-client"
CLIENT_SECRET = "wave-secret"


class Throttle:
    """Counts the calls of each token, now and within the last 60 seconds; a limit of 0 is off."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.max_concurrent = 0
        self.max_per_minute = 0
        self._lock = threading.Lock()
        self._running: collections.Counter[str] = collections.Counter()
        self._recent: dict[str, collections.deque[float]] = collections.defaultdict(collections.deque)

    def enter(self, token: str) -> int:
        """Let a call in and return 0, or return the seconds to wait."""
        with self._lock:
            if self.max_concurrent and self._running[token] >= self.max_concurrent:
                return 1
            wait = self._wait(self._recent[token])
            if not wait:
                self._running[token] += 1
                self._recent[token].append(self.clock().timestamp())
            return wait

    def leave(self, token: str) -> None:
        """Note that a call that was let in has ended."""
        with self._lock:
            self._running[token] -= 1

    def _wait(self, recent: collections.deque[float]) -> int:
        now = self.clock().timestamp()
        while recent and recent[0] <= now - 60:
            recent.popleft()
        if not self.max_per_minute or len(recent) < self.max_per_minute:
            return 0
        return max(1, int(recent[0] + 60 - now))


class Wave(Ledger):
    """Wave Accounting on loopback. Options: `grants` (OAuth), `throttle` (limits), `latency` (seconds that each GraphQL call takes)."""

    name = "wave"

    def __init__(
        self,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        client_id: str = CLIENT_ID,
        client_secret: str = CLIENT_SECRET,
    ) -> None:
        super().__init__(clock)
        self.client_id = client_id
        self.client_secret = client_secret
        self.grants = Grants(clock)
        self.throttle = Throttle(clock)
        self.latency = 0.0
        self._events = itertools.count(1)
        self.route("POST", GRAPHQL, self._graphql)
        self.route("GET", "/oauth2/authorize/", self._authorize)
        self.route("POST", "/oauth2/authorize/", self._authorize)
        self.route("POST", "/oauth2/token/", self._token)
        self.route("POST", "/oauth2/token-revoke/", self._revoke)
        self.route("POST", "/story/([a-z_]+)", self._story)
        self.route("GET", "/", lambda request: Response(200, page(self)))

    def handle(self, request: Request) -> Response:
        """Answer a request; GraphQL calls pass the limits first and take their time outside the lock."""
        if request.path != GRAPHQL:
            return super().handle(request)
        token = _bearer(request)
        wait = self.throttle.enter(token)
        if wait:
            return Response(429, refusal("TOO_MANY_REQUESTS", "Too many requests."), {"Retry-After": str(wait)})
        try:
            time.sleep(self.latency)
            return super().handle(request)
        finally:
            self.throttle.leave(token)

    # -- credentials -------------------------------------------------------------------------------------------------------------

    @story
    def add_token(self, token: str = "") -> str:
        """Add a full-access token, made up unless given, and return it."""
        return self.grants.add_full_access(token)

    @story
    def add_code(self, *, scope: str = SCOPE, business: str = "", redirect_uri: str = "") -> str:
        """Add an authorization code; with a `business` its grant reaches that one only."""
        return self.grants.add_code(scope=scope, business=business, redirect_uri=redirect_uri)

    @story
    def add_grant(self, *, scope: str = SCOPE, business: str = "") -> dict[str, Any]:
        """Add a grant and return the answer of the token endpoint, refresh token included."""
        return self._tokens(self.grants.add_grant(scope=scope, business=business), with_refresh=True)

    @story
    def expire(self, token: str) -> None:
        """Let an access token run out now."""
        self.grants.expire(token)

    @story
    def revoke(self, token: str) -> None:
        """Take back the whole grant of an access or refresh token."""
        self.grants.revoke(token)

    @story
    def configure(self, **options: Any) -> None:
        """Set any of OPTIONS, wherever it lives; raise TypeError for another name."""
        if not options.keys() <= OPTIONS:
            raise TypeError(f"the options are {', '.join(sorted(OPTIONS))}")
        for name, value in options.items():
            setattr(next(part for part in (self.grants, self.throttle, self) if hasattr(part, name)), name, value)

    # -- webhooks ----------------------------------------------------------------------------------------------------------------

    @story
    def event(
        self,
        event_type: str,
        *,
        invoice: str = "",
        customer: str = "",
        payment: str = "",
        business: str = "",
        event_id: str = "",
        **data: Any,
    ) -> bytes:
        """Return the body of a delivery about the given record, which may be gone by now; `data` adds to or replaces what it tells."""
        subject = next((node for node in (invoice, payment, customer, business) if node), "") or next(iter(self.businesses))
        told = _numbers(invoice_id=invoice, payment_id=payment, customer_id=customer)
        if payment and not invoice:
            invoice = self.invoice_of(payment).id
            told |= _numbers(invoice_id=invoice)
        if invoice in self.invoices:
            told |= _about(event_type, self.invoices[invoice])
        elif event_type.startswith("estimate."):
            told |= {"estimate_id": "2496756670638000001"}
        business_id = data.pop("business_id", split_id(subject)[0])
        number = event_id or f"evt-{next(self._events):08}"
        return wave_webhooks.envelope(event_type, event_id=number, business_id=business_id, data=told | data)

    def signed_headers(self, body: bytes, secret: str, at: datetime | None = None) -> dict[str, str]:
        """Return the headers of a delivery, signed at the stand-in's own time unless given."""
        return wave_webhooks.signed_headers(body, secret, at or self.clock())

    def deliver(self, url: str, body: bytes, secret: str, at: datetime | None = None, timeout: float = 30) -> requests.Response:
        """Post a signed delivery. No lock is held: the receiver may read back before it answers."""
        return wave_webhooks.deliver(url, body, secret, at or self.clock(), timeout=timeout)

    # -- HTTP --------------------------------------------------------------------------------------------------------------------

    def _graphql(self, request: Request) -> Response:
        # https://developer.waveapps.com: POST https://gql.waveapps.com/graphql/public
        try:
            query, variables, operation = _document(request)
        except ValueError as error:
            return Response(400, refusal("BAD_USER_INPUT", str(error)))
        return Response(200, answer(query, variables, operation, lambda: self._view(request)))

    def _view(self, request: Request) -> View | None:
        grant = self.grants.find(_bearer(request))
        return View(self, grant.business) if grant else None

    def _authorize(self, request: Request) -> Response:
        # https://developer.waveapps.com: GET https://api.waveapps.com/oauth2/authorize/
        redirect_uri, scope = request.arg("redirect_uri"), request.arg("scope")
        if request.arg("client_id") != self.client_id or request.arg("response_type") != "code" or not redirect_uri:
            return Response(400, {"error": "invalid_request"})
        if not scope or not set(scope.split()) <= self.grants.scopes:
            return back(request, {"error": "invalid_scope"})
        chosen = answered(request)
        if self.consent_at_once:
            chosen = {"answer": "approve", "place": request.arg("businessId")}
        if "answer" not in chosen:
            return self._consent_page(request)
        if chosen["answer"] != "approve":
            return back(request, DENIED)
        return back(request, {"code": self.grants.add_code(scope=scope, business=chosen.get("place", ""), redirect_uri=redirect_uri)})

    def _consent_page(self, request: Request) -> Response:
        places = [*((business.id, business.name) for business in self.businesses.values()), ("", "All of them")]
        person = "owner@sandbox.example"
        return consent_page("Wave", request, person=person, question="Which business?", places=places, chosen=request.arg("businessId"))

    def _token(self, request: Request) -> Response:
        # https://developer.waveapps.com: POST https://api.waveapps.com/oauth2/token/
        form = _form(request)
        try:
            self._check_client(form)
            return Response(200, self._granted(form))
        except OAuthError as error:
            return Response(error.status, {"error": error.error})

    def _granted(self, form: dict[str, str]) -> dict[str, Any]:
        if form.get("grant_type") == "authorization_code":
            return self._tokens(self.grants.exchange(form.get("code", ""), form.get("redirect_uri", "")), with_refresh=True)
        if form.get("grant_type") == "refresh_token":
            grant = self.grants.refresh(form.get("refresh_token", ""))
            return self._tokens(grant, with_refresh=self.grants.rotate_refresh)
        raise OAuthError(400, "unsupported_grant_type")

    def _revoke(self, request: Request) -> Response:
        # https://developer.waveapps.com: POST https://api.waveapps.com/oauth2/token-revoke/
        form = _form(request)
        try:
            self._check_client(form)
        except OAuthError as error:
            return Response(error.status, {"error": error.error})
        self.grants.revoke(form.get("token", ""))
        return Response(200, {})

    def _check_client(self, form: dict[str, str]) -> None:
        if (form.get("client_id"), form.get("client_secret")) != (self.client_id, self.client_secret):
            raise OAuthError(401, "invalid_client")

    def _tokens(self, grant: Grant, *, with_refresh: bool) -> dict[str, Any]:
        told = {"access_token": grant.access_token, "token_type": "Bearer", "expires_in": self.grants.expires_in, "scope": grant.scope}
        return told | ({"refresh_token": grant.refresh_token} if with_refresh else {})

    def _story(self, request: Request, name: str) -> Response:
        if not getattr(getattr(type(self), name, None), "is_story", False):
            return Response(404, {"error": f"no such step: {name}"})
        try:
            result = getattr(self, name)(**(request.json() or {}))
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            return Response(400, {"error": f"{type(error).__name__}: {error}"})
        if isinstance(result, bytes):
            return Response(200, {"body": result.decode()})
        return Response(200, {"id": result} if isinstance(result, str) else result or {})


def _bearer(request: Request) -> str:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token if kind == "Bearer" else ""


def _document(request: Request) -> tuple[str, dict[str, Any], str | None]:
    asked = request.json()
    if not isinstance(asked, dict):
        raise ValueError("The body must be a JSON object.")
    query, variables = asked.get("query"), asked.get("variables")
    if not isinstance(query, str) or not isinstance(variables, dict | None):
        raise ValueError("The body must hold a query and, if any, an object of variables.")
    return query, variables or {}, asked.get("operationName")


def _form(request: Request) -> dict[str, str]:
    # Form encoded only: whether Wave takes JSON or HTTP Basic here is not known, so a client that sends them finds no credentials.
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return {}
    return {name: values[0] for name, values in parse_qs(request.body.decode("utf-8", "replace")).items()}


def _numbers(**nodes: str) -> dict[str, str]:
    return {name: split_id(node)[2] for name, node in nodes.items() if node}


def _about(event_type: str, invoice: Invoice) -> dict[str, str]:
    told = _numbers(invoice_id=invoice.id, customer_id=invoice.customer) | {"currency_code": invoice.currency}
    if event_type == "invoice.overdue":
        dates = {"due_date": invoice.due_date.isoformat(), "issue_date": invoice.invoice_date.isoformat()}
        return told | dates | {"invoice_balance": amount_text(invoice.amount_due, invoice.currency)}
    if invoice.payments and event_type in ("invoice.paid", "invoice.partially_paid", "invoice.overpaid", "payment.created"):
        last = invoice.payments[-1]
        sums = {
            "amount_paid": amount_text(last.amount, invoice.currency),
            "remaining_balance": amount_text(invoice.amount_due, invoice.currency),
        }
        return told | sums | {"paid_date": last.payment_date.isoformat()}
    return told
