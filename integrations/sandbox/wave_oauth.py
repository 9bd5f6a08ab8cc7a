"""The grants of Wave's stand-in: codes, access tokens and refresh tokens, and how each of them dies."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

CODE_LIFETIME = timedelta(minutes=10)
SCOPE = "user:read business:read customer:read invoice:read"
# https://developer.waveapps.com/hc/en-us/articles/360032818132 (OAuth Scopes)
SCOPES = frozenset(
    {f"{area}:{verb}" for area in ("account", "business", "customer", "product", "sales_tax", "vendor") for verb in ("read", "write", "*")}
    | {"invoice:read", "invoice:write", "invoice:send", "invoice:*", "transaction:write", "transaction:*"}
    | {"user:read", "user:*", "estimate:read", "estimate:*"}
)


class OAuthError(Exception):
    """A refusal of the token endpoint, with the HTTP status and OAuth's own error code."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


@dataclass(slots=True)
class Grant:
    """What a user allowed; `business` is a GraphQL id, or empty for every business of the user."""

    scope: str
    business: str = ""
    access_token: str = ""
    refresh_token: str = ""
    expires_at: datetime | None = None  # None: a full-access token, which lives until it is revoked


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code on its way back to the token endpoint."""

    scope: str
    business: str
    redirect_uri: str
    expires_at: datetime


class Grants:
    """All tokens. `rotate_refresh` says whether a refresh answers a new refresh token; `refresh_refused` is a status such as 403."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.rotate_refresh = False
        self.expires_in = 7200
        self.refresh_refused: int | None = None
        self.scopes = SCOPES  # others are refused with invalid_scope
        self.codes: dict[str, Code] = {}
        self.grants: list[Grant] = []

    def add_full_access(self, token: str = "") -> str:
        """Add a full-access token and return it."""
        self.grants.append(Grant("", access_token=token or f"full-{secrets.token_hex(16)}"))
        return self.grants[-1].access_token

    def add_code(self, *, scope: str = SCOPE, business: str = "", redirect_uri: str = "") -> str:
        """Add an authorization code, good once and for ten minutes; an empty `redirect_uri` matches any."""
        code = secrets.token_hex(8)
        self.codes[code] = Code(scope, business, redirect_uri, self.clock() + CODE_LIFETIME)
        return code

    def add_grant(self, *, scope: str = SCOPE, business: str = "") -> Grant:
        """Add a grant with fresh tokens, as if a user had walked through the consent page."""
        grant = Grant(scope, business, refresh_token=f"refresh-{secrets.token_hex(16)}")
        self.grants.append(grant)
        self._renew(grant)
        return grant

    def exchange(self, code: str, redirect_uri: str) -> Grant:
        """Turn a code into a grant; raise OAuthError for a code that is unknown, used, too old or of another redirect URI."""
        found = self.codes.pop(code, None)
        if found is None or self.clock() >= found.expires_at or found.redirect_uri not in ("", redirect_uri):
            raise OAuthError(400, "invalid_grant")
        return self.add_grant(scope=found.scope, business=found.business)

    def refresh(self, token: str) -> Grant:
        """Renew a grant: its access token dies at once, its refresh token when they rotate; raise OAuthError when refused."""
        if self.refresh_refused is not None:
            raise OAuthError(self.refresh_refused, "access_denied")
        grant = next((held for held in self.grants if token and held.refresh_token == token), None)
        if grant is None:
            raise OAuthError(400, "invalid_grant")
        if self.rotate_refresh:
            grant.refresh_token = f"refresh-{secrets.token_hex(16)}"
        self._renew(grant)
        return grant

    def revoke(self, token: str) -> None:
        """Forget the grant that holds this access or refresh token; an unknown one changes nothing."""
        self.grants = [held for held in self.grants if token not in (held.access_token, held.refresh_token)]

    def expire(self, token: str) -> None:
        """Let an access token run out now; its refresh token lives on. Raise KeyError for an unknown one."""
        for held in self.grants:
            if held.access_token == token:
                held.expires_at = self.clock()
                return
        raise KeyError("no such token")

    def find(self, access_token: str) -> Grant | None:
        """Return the living grant behind an access token."""
        held = next((held for held in self.grants if access_token and held.access_token == access_token), None)
        if held is None or (held.expires_at is not None and self.clock() >= held.expires_at):
            return None
        return held

    def _renew(self, grant: Grant) -> None:
        grant.access_token = f"access-{secrets.token_hex(16)}"
        grant.expires_at = self.clock() + timedelta(seconds=self.expires_in)
