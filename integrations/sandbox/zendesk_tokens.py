"""The ways into the Zendesk stand-in: three OAuth grants with rotation, and Basic with an API token."""

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import parse_qs

from integrations.sandbox.consent_page import DENIED, answered, back, consent_page
from integrations.sandbox.server import Request, Response
from integrations.sandbox.zendesk_account import Account
from integrations.sandbox.zendesk_wire import Json, RefusedError, forbidden, not_found, payload, stamp

NARROW = ("organizations", "users", "custom_objects", "apps")
SCOPES = frozenset({"read", "write", "impersonate"} | {f"{area}:{verb}" for area in NARROW for verb in ("read", "write")})


@dataclass(frozen=True, slots=True)
class Grant:
    """One access token, with its refresh token where the flow gives one."""

    id: int
    access: str
    refresh: str | None
    scope: str
    created_at: datetime
    expires_at: datetime
    refresh_expires_at: datetime


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code on its way through the browser."""

    redirect_uri: str
    challenge: str
    expires_at: datetime


def _denied(status: int, error: str, description: str) -> RefusedError:
    return RefusedError(status, {"error": error, "error_description": description})


def _no_credentials() -> RefusedError:
    return RefusedError(401, {"error": "Couldn't authenticate you"})


def _dead_token() -> RefusedError:
    words = "The access token provided is expired, revoked, malformed or invalid for other reasons."
    return _denied(401, "invalid_token", words)


class Tokens:
    """Issues, rotates, checks and revokes."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.grants: list[Grant] = []
        self.codes: dict[str, Code] = {}
        account.route("GET", "/oauth/authorizations/new", self.authorize)
        account.route("POST", "/oauth/authorizations/new", self.authorize)
        account.route("POST", "/oauth/tokens", self.exchange)
        account.route("GET", "/api/v2/oauth/tokens/current", self.show_current)
        account.route("DELETE", "/api/v2/oauth/tokens/current", self.revoke_current)

    def issue(self, scope: str = "read write", *, refreshable: bool = True, lifetime: int = 0, refresh_lifetime: int = 0) -> Grant:
        """Make a grant; lifetimes in seconds, 0 = the account's own."""
        now = self.account.clock()
        grant = Grant(
            id=self.account.new_id(4),
            access=secrets.token_hex(32),
            refresh=secrets.token_hex(32) if refreshable else None,
            scope=scope,
            created_at=now,
            expires_at=now + timedelta(seconds=lifetime or self.account.token_lifetime),
            refresh_expires_at=now + timedelta(seconds=refresh_lifetime or self.account.refresh_lifetime),
        )
        self.grants.append(grant)
        return grant

    def issue_code(self, redirect_uri: str, challenge: str = "") -> str:
        """Make an authorization code as if a person had agreed in the browser."""
        code = secrets.token_hex(16)
        self.codes[code] = Code(redirect_uri, challenge, self.account.clock() + timedelta(seconds=self.account.code_seconds))
        return code

    # https://developer.zendesk.com/api-reference/ticketing/oauth/grant_type_tokens/
    def authorize(self, request: Request) -> Response:
        """Show the consent page; then send the browser back with a code, or with the person's refusal."""
        redirect_uri = request.arg("redirect_uri")
        if request.arg("client_id") != self.account.client_id or request.arg("response_type") != "code" or not redirect_uri:
            raise _denied(400, "invalid_request", "Unknown client, missing redirect_uri or response_type")
        chosen = "approve" if self.account.consent else "deny"
        if not self.account.consent_at_once:
            chosen = answered(request).get("answer", "")
        if not chosen:
            return consent_page("Zendesk", request, person=self.account.email)
        if chosen != "approve":
            return back(request, DENIED)
        return back(request, {"code": self.issue_code(redirect_uri, request.arg("code_challenge"))})

    def exchange(self, request: Request) -> Response:
        """Answer one of the three grants; JSON, and as seen also form encoding."""
        body = self._form(request)
        grants = {"authorization_code": self._by_code, "refresh_token": self._by_refresh, "client_credentials": self._by_client}
        grant_type = grants.get(str(body.get("grant_type")))
        if grant_type is None:
            raise _denied(400, "unsupported_grant_type", "The authorization grant type is not supported.")
        self._check_client(body)
        lifetimes = (_seconds(body, "expires_in", 300, 172_800), _seconds(body, "refresh_token_expires_in", 604_800, 7_776_000))
        return Response(200, self._shown(grant_type(body, lifetimes)))

    def _form(self, request: Request) -> Json:
        if "form-urlencoded" in request.headers.get("content-type", ""):
            return {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        return payload(request)

    def _check_client(self, body: Json) -> None:
        if body.get("client_id") != self.account.client_id:
            raise _denied(401, "invalid_client", "Client authentication failed.")
        if body.get("client_secret") is None and self.account.public_client and body["grant_type"] != "client_credentials":
            return
        if body.get("client_secret") != self.account.client_secret:
            raise _denied(401, "invalid_client", "Client authentication failed.")

    def _by_code(self, body: Json, lifetimes: tuple[int, int]) -> Grant:
        code = self.codes.pop(str(body.get("code")), None)
        if code is None or code.expires_at <= self.account.clock() or code.redirect_uri != body.get("redirect_uri"):
            raise _denied(400, "invalid_grant", "The provided authorization grant is invalid, expired, revoked or was used already.")
        if code.challenge or self.account.public_client:
            digest = hashlib.sha256(str(body.get("code_verifier", "")).encode()).digest()
            if code.challenge != base64.urlsafe_b64encode(digest).rstrip(b"=").decode():
                raise _denied(400, "invalid_grant", "The code verifier does not fit the challenge.")
        return self.issue(self._scope(body), lifetime=lifetimes[0], refresh_lifetime=lifetimes[1])

    def _by_refresh(self, body: Json, lifetimes: tuple[int, int]) -> Grant:
        old = next((grant for grant in self.grants if grant.refresh and grant.refresh == body.get("refresh_token")), None)
        if old is None or old.refresh_expires_at <= self.account.clock():
            raise _denied(400, "invalid_grant", "The provided authorization grant is invalid, expired, revoked or was used already.")
        self.grants.remove(old)  # the old access token dies with the old refresh token
        return self.issue(old.scope, lifetime=lifetimes[0], refresh_lifetime=lifetimes[1])

    def _by_client(self, body: Json, lifetimes: tuple[int, int]) -> Grant:
        return self.issue(self._scope(body), refreshable=False, lifetime=lifetimes[0])

    def _scope(self, body: Json) -> str:
        asked = str(body.get("scope") or "")
        allowed = self.account.allowed_scopes
        if not asked or (allowed is not None and not set(asked.split()) <= allowed):
            raise _denied(400, "invalid_scope", "The requested scope is invalid, unknown, or malformed.")
        return self.account.granted_scope if self.account.granted_scope is not None else asked

    def _shown(self, grant: Grant) -> Json:
        seconds = int((grant.expires_at - grant.created_at).total_seconds())
        answer = {"access_token": grant.access, "token_type": "bearer", "scope": grant.scope, "expires_in": seconds}
        if grant.refresh is None:
            return answer
        kept = int((grant.refresh_expires_at - grant.created_at).total_seconds())
        return answer | {"refresh_token": grant.refresh, "refresh_token_expires_in": kept}

    def expire(self, token: str) -> None:
        """Let an access token die now, its refresh token stays; or let a refresh token die with its pair."""
        now = self.account.clock()
        for index, grant in enumerate(self.grants):
            if token == grant.access:
                self.grants[index] = replace(grant, expires_at=now)
            elif token == grant.refresh:
                self.grants[index] = replace(grant, expires_at=now, refresh_expires_at=now)

    def grant_of(self, request: Request) -> Grant | None:
        """Return the living grant of a Bearer request."""
        access = request.headers.get("authorization", "").removeprefix("Bearer ")
        now = self.account.clock()
        return next((grant for grant in self.grants if grant.access == access and grant.expires_at > now), None)

    def known(self, request: Request) -> bool:
        """Say whether the caller is the acting user; a wrong API token is the one mistake that is always a 401."""
        header = request.headers.get("authorization", "")
        if header.startswith("Bearer "):
            return self.grant_of(request) is not None
        if not header.startswith("Basic "):
            return False
        login, _, password = _basic(header).partition(":")
        if not login.endswith("/token"):
            return False
        if (login.removesuffix("/token").lower(), password) != (self.account.email.lower(), self.account.api_token):
            raise _no_credentials()
        return True

    def check(self, request: Request) -> None:
        """Let the acting user pass; raise the vendor's 401 or, for a scope that does not reach, its 403."""
        if not self.known(request):
            bearer = request.headers.get("authorization", "").startswith("Bearer ")
            raise _dead_token() if bearer else _no_credentials()
        grant = self.grant_of(request)
        if grant is not None and not request.path.startswith("/api/v2/oauth/"):
            _check_scope(request, grant.scope)

    def show_current(self, request: Request) -> Response:
        """Describe the token in use."""
        grant = self._current(request)
        token = {
            "id": grant.id,
            "client_id": 223443,
            "user_id": self.account.acting_user,
            "scopes": grant.scope.split(),
            "token": grant.access[:10],
            "created_at": stamp(grant.created_at),
            "expires_at": stamp(grant.expires_at),
            "used_at": self.account.now(),
        }
        return Response(200, {"token": token})

    def revoke_current(self, request: Request) -> Response:
        """Revoke the token in use and the refresh token paired with it."""
        self.grants.remove(self._current(request))
        return Response(204)

    def _current(self, request: Request) -> Grant:
        grant = self.grant_of(request)
        if grant is None:
            raise not_found()
        return grant


def _seconds(body: Json, name: str, low: int, high: int) -> int:
    value = body.get(name)
    if value is None:
        return 0
    if not str(value).isdigit() or not low < int(value) <= high:
        raise _denied(400, "invalid_request", f"{name} must be more than {low} and less than {high} seconds")
    return int(value)


def _basic(header: str) -> str:
    try:
        return base64.b64decode(header.removeprefix("Basic "), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _check_scope(request: Request, scope: str) -> None:
    verb = "read" if request.method == "GET" else "write"
    area = request.path.removeprefix("/api/v2/").split("/")[0]
    wanted = {verb, f"{area}:{verb}"} & SCOPES
    if not wanted & set(scope.split()):
        raise forbidden(f"You are missing the following required scopes: {', '.join(sorted(wanted))}")
