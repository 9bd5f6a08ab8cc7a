"""Jira's own webhooks: what should be registered, whether a delivery is genuine, and what it hints at. Pure but for the calls.

https://developer.atlassian.com/cloud/jira/platform/webhooks/
https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-webhooks/
"""

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import jwt

from integrations.core.events import Verdict, VerdictReason
from integrations.core.hooks import Hint, Remote, Wish
from integrations.core.ports import Account
from integrations.destinations.jira.client import JiraClient
from integrations.destinations.jira.mapping import ISSUE_KINDS
from integrations.http import ApiClient

UPDATED, DELETED = "jira:issue_updated", "jira:issue_deleted"
# A moved and a re-opened issue come as updates, with an issue_event_type_name and a changelog of their own.
EVENTS = (UPDATED, DELETED)
# What an admin's webhook may send besides, and we do not mind.
IGNORED = ("jira:issue_created", "comment_*", "worklog_*", "jira:worklog_*", "issue_property_*", "issuelink_*", "attachment_*", "sprint_*")
ISSUES = frozenset(ISSUE_KINDS)
STATUS = frozenset({"status"})
KINDS = ISSUES | STATUS
MOVED_FIELDS = frozenset({"project", "key"})

LEEWAY = 120  # seconds
LONGEST_TOKEN = 8192  # characters
IDENTIFIER, SIGNATURE, AUTHORIZATION = "x-atlassian-webhook-identifier", "x-hub-signature", "authorization"
HASH_BLOCK = 64  # bytes: SHA-256's
# More than 10^11 seconds lie in the year 5138, as many milliseconds in 1973.
MILLISECONDS_FROM = 10**11


# --- What should be registered ------------------------------------------------------------------------------------


def wish(url: str, options: Sequence[Mapping[str, Any]]) -> Wish | None:
    """Return the one webhook for a site: all projects of its routes in one list, for an app has five webhooks at most."""
    projects = sorted({str(option["project"]) for option in options if option.get("project")})
    if not projects:
        return None
    # In quotes: a project's key may be a word of JQL.
    quoted = ", ".join(f'"{project}"' for project in projects)
    return Wish(url, f"project IN ({quoted})", EVENTS)


def same(wished: Wish, remote: Remote) -> bool:
    """Say whether a listed webhook is the one wished for, however the site writes its filter and orders its events."""
    asked = (wished.url, _plain(wished.query), frozenset(wished.events))
    return asked == (remote.url, _plain(remote.query), frozenset(remote.events))


def _plain(jql: str) -> str:
    return re.sub(r"[\s\"']", "", jql).casefold()


def expiry(value: Any) -> datetime | None:
    """Return an expirationDate as a time, None when it is none.

    The vendor's schema says milliseconds, its example 2019-06-01T12:42:30.000+0000; a text of digits is read as a number.
    """
    try:
        if isinstance(value, str) and not value.strip().isdecimal():
            found = datetime.fromisoformat(value.strip())
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        return None if isinstance(value, bool) else _of_number(int(value))
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _of_number(value: int) -> datetime:
    return datetime.fromtimestamp(value / 1000 if value >= MILLISECONDS_FROM else value, UTC)


class JiraWebhooks:
    """The webhooks of the OAuth app at one site."""

    def __init__(self, api: ApiClient) -> None:
        self.client = JiraClient(api)

    def own_account(self) -> str:
        """Return the account's accountId."""
        return str(self.client.myself().get("accountId") or "")

    def listed(self) -> list[Remote]:
        """Return what the app has registered at the site, with the date each ends."""
        return [_remote(entry) for entry in self.client.webhooks() if entry.get("id") is not None]

    def register(self, wish: Wish) -> str:
        """Register a webhook and return its id; raise Rejected `not_registered`."""
        return self.client.register_webhook(wish.url, wish.events, wish.query)

    def refresh(self, ids: Sequence[str]) -> None:
        """Give webhooks 30 more days; read back whether it was done."""
        self.client.refresh_webhooks(ids)

    def delete(self, ids: Sequence[str]) -> None:
        """Remove webhooks."""
        self.client.delete_webhooks(ids)


def _remote(entry: Mapping[str, Any]) -> Remote:
    events = entry.get("events")
    names = tuple(str(name) for name in events) if isinstance(events, list) else ()
    url, jql = str(entry.get("url") or ""), str(entry.get("jqlFilter") or "")
    return Remote(str(entry["id"]), url, jql, names, expiry(entry.get("expirationDate")))


# --- Whether a delivery is genuine --------------------------------------------------------------------------------


def verify(account: Account, secrets: Mapping[str, Any], signing: Sequence[str], headers: Mapping[str, str], body: bytes) -> Verdict:
    """Tell whether a delivery comes from our app's webhook (OAuth), or from an admin's webhook with one of our secrets.

    The OAuth way's token does not bind the body: whoever verifies it must look at the issue and believe nothing else.
    """
    if account.auth == "oauth":
        return verify_token(_bearer(headers), str(secrets.get("client_secret") or ""), account.settings.get("client_id", ""))
    return verify_signature(_header(headers, SIGNATURE), body, signing)


def verify_token(token: str, secret: str, client_id: str) -> Verdict:
    """Tell whether a JWT is signed with the app's secret (HS256 only), names the app and has not expired.

    https://developer.atlassian.com/cloud/jira/platform/webhooks/#secure-webhooks
    """
    if not token:
        return Verdict(False, VerdictReason.MISSING)
    if not secret or not client_id:
        return Verdict(False, VerdictReason.MISMATCH)
    # HMAC itself fills a key up with zeros (RFC 2104); PyJWT would warn of a short one, whose length is the vendor's choice.
    key = secret.encode().ljust(HASH_BLOCK, b"\0")
    # Only these claims are known to be there; what the others hold is not established.
    checks = {"require": ["iss", "exp"], "verify_aud": False, "verify_iat": False, "verify_sub": False, "verify_jti": False}
    try:
        jwt.decode(token[:LONGEST_TOKEN], key, algorithms=["HS256"], issuer=client_id, leeway=LEEWAY, options=checks)  # type: ignore[arg-type]
    except jwt.ExpiredSignatureError:
        return Verdict(False, VerdictReason.STALE)
    except jwt.InvalidSignatureError:
        return Verdict(False, VerdictReason.MISMATCH)
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        return Verdict(False, VerdictReason.MALFORMED)
    return Verdict(True)


def verify_signature(header: str, body: bytes, secrets: Sequence[str]) -> Verdict:
    """Tell whether `sha256=<hex HMAC-SHA256 of the raw body>` was made with one of the secrets.

    https://developer.atlassian.com/cloud/jira/platform/webhooks/#secure-admin-webhooks
    """
    if not header:
        return Verdict(False, VerdictReason.MISSING)
    method, _, digest = header.partition("=")
    if method != "sha256" or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        return Verdict(False, VerdictReason.MALFORMED)
    # All are compared, so that the time taken does not tell which one fits.
    fits = [secret != "" and hmac.compare_digest(_signature(body, secret), digest.lower()) for secret in secrets]
    return Verdict(True, None, fits.index(True)) if any(fits) else Verdict(False, VerdictReason.MISMATCH)


def _signature(body: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def identifier(headers: Mapping[str, str]) -> str:
    """Return what Jira knows a delivery by: the same on every retry, "" when it does not say."""
    return _header(headers, IDENTIFIER)


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, token = _header(headers, AUTHORIZATION).partition(" ")
    return token.strip() if scheme.lower() in ("bearer", "jwt") else ""


def _header(headers: Mapping[str, str], wanted: str) -> str:
    return next((str(value).strip() for name, value in headers.items() if str(name).lower() == wanted), "")


# --- What it hints at ---------------------------------------------------------------------------------------------


def parse(body: bytes) -> Hint | None:
    """Return what a delivery says happened; None when it cannot be read, or names no event."""
    payload = _payload(body)
    event = _name(payload, "webhookEvent")
    if not event:
        return None
    if event not in EVENTS:
        return Hint(event, known=any(fnmatchcase(event, pattern) for pattern in IGNORED))
    issue, actor = _id_of(payload), _actor(payload)
    if not issue:
        return None
    if event == DELETED:
        # We never delete an issue, and never move one to another project.
        return Hint(event, issue, "deleted", ISSUES, actor, ours=False)
    changed = frozenset(_changed(payload))
    if changed & MOVED_FIELDS or _name(payload, "issue_event_type_name") == "issue_moved":
        return Hint(event, issue, "moved", KINDS, actor, ours=False)
    return Hint(event, issue, "status", STATUS, actor) if "status" in changed else Hint(event, issue, actor=actor)


def essence(body: bytes) -> bytes:
    """Return the part of a body that `parse` reads, as JSON: ids and the names of event and fields, but no values."""
    payload = _payload(body)
    found = {
        "webhookEvent": _name(payload, "webhookEvent"),
        "issue_event_type_name": _name(payload, "issue_event_type_name"),
        "issue": {"id": _id_of(payload)},
        "user": {"accountId": _actor(payload)},
        "changelog": {"items": [{"field": name} for name in sorted(set(_changed(payload)))]},
    }
    return json.dumps(found).encode()


def _name(payload: Mapping[str, Any], key: str) -> str:
    """Return a name of Jira's own, "" for what is none."""
    found = payload.get(key)
    return found if isinstance(found, str) and re.fullmatch(r"[A-Za-z0-9_:.-]{1,100}", found) else ""


def _payload(body: bytes) -> dict[str, Any]:
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return payload if isinstance(payload, dict) else {}


def _id_of(payload: Mapping[str, Any]) -> str:
    issue = payload.get("issue")
    found = issue.get("id") if isinstance(issue, dict) else None
    text = str(found) if isinstance(found, int | str) and not isinstance(found, bool) else ""
    return text if re.fullmatch(r"[0-9]{1,20}", text) else ""


def _actor(payload: Mapping[str, Any]) -> str:
    user = payload.get("user")
    found = user.get("accountId") if isinstance(user, dict) else None
    return found if isinstance(found, str) else ""


def _changed(payload: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names and ids of the changed fields, case-folded."""
    changelog = payload.get("changelog")
    items = changelog.get("items") if isinstance(changelog, dict) else None
    for item in items if isinstance(items, list) else []:
        names = (item.get("field"), item.get("fieldId")) if isinstance(item, dict) else ()
        yield from (name.casefold() for name in names if isinstance(name, str))
