"""Decide who calls: Basic with an API token, or Bearer with rotating OAuth tokens, their scopes and sites.

https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/
"""

import base64
import binascii
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from integrations.sandbox.consent_page import DENIED, answered, back, consent_page
from integrations.sandbox.jira_site import Site
from integrations.sandbox.server import Request, Response

ACCESS_LIFE = timedelta(hours=1)
REUSE_GRACE = timedelta(minutes=10)  # a rotated refresh token still works so long; later it ends the whole family
_READ, _WRITE = {"read:jira-work"}, {"write:jira-work"}
# The scopes that each operation needs; the first row that fits decides.
_NEEDS: tuple[tuple[str, str, set[str]], ...] = (
    (".*", "/webhook.*", {"manage:jira-webhook", "read:jira-work"}),
    ("POST", "/field", {"manage:jira-configuration"}),
    (".*", "/screens.*", {"manage:jira-project"}),
    ("GET", "/myself|/configuration", {"read:jira-user"}),
    ("GET", "/serverInfo", set()),
    ("POST", "/search/jql|/issue/bulkfetch", _READ),
    ("GET", ".*", _READ),
    (".*", ".*", _WRITE),
)


@dataclass(slots=True)
class Family:
    """All tokens that descend from one consent; without `sites` (cloud ids) it reaches every site."""

    scopes: frozenset[str]
    revoked: bool = False
    sites: frozenset[str] | None = None

    def reaches(self, cloud_id: str) -> bool:
        """Say whether the consent covers a site."""
        return self.sites is None or cloud_id in self.sites


@dataclass(slots=True)
class Access:
    """An access token's family and end."""

    family: Family
    expires: datetime


@dataclass(slots=True)
class Refresh:
    """A refresh token's family and the time at which a newer one replaced it."""

    family: Family
    replaced: datetime | None = None


class Grants:
    """The codes and tokens of the OAuth app."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.codes: dict[str, tuple[Family, str]] = {}
        self.access: dict[str, Access] = {}
        self.refresh: dict[str, Refresh] = {}
        self.sites: frozenset[str] = frozenset()  # one grant per app and person: each consent adds a site to it

    def code(self, scopes: Iterable[str], redirect_uri: str, site: str = "") -> str:
        """Return a code for one exchange with the same redirect_uri; with a site it reaches that one and those before."""
        code = secrets.token_urlsafe(16)
        self.sites |= {site} if site else set()
        self.codes[code] = (Family(frozenset(scopes), sites=self.sites if site else None), redirect_uri)
        return code

    def issue(self, family: Family, *, rotate: bool) -> dict[str, Any]:
        """Return a token answer; a refresh token is in it with `rotate` and offline_access only."""
        access, refresh = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self.access[access] = Access(family, self.clock() + ACCESS_LIFE)
        answer = {"access_token": access, "expires_in": int(ACCESS_LIFE.total_seconds()), "token_type": "Bearer"}
        answer["scope"] = " ".join(sorted(family.scopes))
        if not rotate or "offline_access" not in family.scopes:
            return answer
        for old in self.refresh.values():
            if old.family is family and old.replaced is None:
                old.replaced = self.clock()
        self.refresh[refresh] = Refresh(family)
        return answer | {"refresh_token": refresh}

    def exchanged(self, code: str, redirect_uri: str) -> Family | None:
        """Spend a code and return its family."""
        family, expected = self.codes.pop(code, (None, ""))
        return family if expected == redirect_uri else None

    def renewed(self, token: str) -> Family | None:
        """Return the family of a refresh token that still counts; late use of a replaced one revokes the family."""
        found = self.refresh.get(token)
        if found is None or found.family.revoked:
            return None
        if found.replaced and self.clock() - found.replaced > REUSE_GRACE:
            found.family.revoked = True
            return None
        return found.family

    def family(self, token: str) -> Family | None:
        """Return the family of a living access token."""
        found = self.access.get(token)
        return found.family if found and not found.family.revoked and self.clock() < found.expires else None

    def scopes(self, token: str) -> frozenset[str] | None:
        """Return the scopes of a living access token."""
        found = self.family(token)
        return found.scopes if found else None

    def expire_access(self) -> None:
        """End all access tokens now; refresh tokens go on."""
        self.access.clear()

    def revoke(self) -> None:
        """Take the consent back: no token works any more."""
        for family in [found.family for found in self.refresh.values()] + [found.family for found in self.access.values()]:
            family.revoked = True


def authorize(site: Site, grants: Grants, request: Request) -> Response:
    """Show the consent page; then send the browser back with a code, or with the person's refusal."""
    if request.arg("client_id") != site.client_id or request.arg("audience") != "api.atlassian.com":
        return Response(400, "<p>Unknown client_id or audience.</p>")
    if request.arg("response_type") != "code" or not re.match("https?://", request.arg("redirect_uri")):
        return Response(400, "<p>response_type must be code, redirect_uri an address.</p>")
    chosen = {"answer": "approve"} if site.consent_at_once else answered(request)
    if "answer" not in chosen:
        places = [(entry["id"], entry["url"]) for entry in site.all_sites()]
        return consent_page("Atlassian", request, person=site.person, question="Use the app on which site?", places=places)
    if chosen["answer"] != "approve":
        return back(request, DENIED)
    asked = set(request.arg("scope").split())
    place = "" if site.consent_at_once else chosen.get("place", site.cloud_id)
    return back(request, {"code": grants.code(asked if site.scopes is None else asked & site.scopes, request.arg("redirect_uri"), place)})


def token(site: Site, grants: Grants, request: Request) -> Response:
    """Answer a grant; the body must be JSON."""
    try:
        body = request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return _refused(400, "invalid_request", "The body must be JSON.")
    if body.get("client_id") != site.client_id or body.get("client_secret") != site.client_secret:
        return _refused(401, "access_denied", "Unauthorized")
    if body.get("grant_type") == "authorization_code":
        family = grants.exchanged(str(body.get("code")), str(body.get("redirect_uri")))
        return Response(200, grants.issue(family, rotate=True)) if family else _refused(403, "invalid_grant", "Invalid authorization code")
    if body.get("grant_type") == "refresh_token":
        family = grants.renewed(str(body.get("refresh_token")))
        if family is None:
            return _refused(403, "invalid_grant", "Unknown or invalid refresh token.")
        return Response(200, grants.issue(family, rotate=not site.omit_refresh_token))
    return _refused(400, "unsupported_grant_type", f"Unsupported grant type: {body.get('grant_type')}")


def _refused(status: int, error: str, text: str) -> Response:
    return Response(status, {"error": error, "error_description": text})


def bearer(request: Request) -> str:
    """Return the Bearer token of a request, "" for none."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    return value if kind.lower() == "bearer" else ""


def is_api_token(site: Site, request: Request) -> bool:
    """Say whether the request carries the right e-mail and API token."""
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    try:
        return kind.lower() == "basic" and base64.b64decode(value, validate=True).decode() == f"{site.email}:{site.api_token}"
    except (binascii.Error, UnicodeDecodeError):
        return False


def missing_scopes(request: Request, path: str, scopes: frozenset[str]) -> set[str]:
    """Return the scopes that an operation under /rest/api/3 needs and the token has not."""
    for method, pattern, needed in _NEEDS:
        if re.fullmatch(method, request.method) and re.fullmatch(pattern, path):
            return needed - scopes
    return set()
