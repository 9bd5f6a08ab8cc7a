"""The two ways into Jira: an API token of a person, or OAuth 2.0 (3LO) through Atlassian's gateway.

https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/
https://developer.atlassian.com/cloud/jira/platform/basic-auth-for-rest-apis/
"""

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from integrations.core.errors import Misconfigured
from integrations.core.ports import Account, Back, Consent, Going, Revocation, TokenCall

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
CLOUD_ID = rf"[0-9a-fA-F]{{8}}(-[0-9a-fA-F]{{4}}){{3}}-[0-9a-fA-F]{{12}}|{LABEL}"


# The classic family; it must not be mixed with granular scopes.
# https://developer.atlassian.com/cloud/jira/platform/scopes-for-oauth-2-3LO-and-forge-apps/
SCOPES = ("read:jira-work", "write:jira-work", "read:jira-user", "manage:jira-webhook", "offline_access")
FIELD_SCOPES = ("manage:jira-configuration", "manage:jira-project")  # to create fields and put them on screens


def base_url(account: Account, urls: Mapping[str, str]) -> str:
    """Return the address before /rest/api/3; raise Misconfigured when the site or cloud id is no bare label."""
    if account.auth == "oauth":
        return _filled(urls["JIRA_API_URL"], "cloud_id", account.settings.get("cloud_id", ""), CLOUD_ID)
    return _filled(urls["JIRA_SITE_URL"], "site", account.settings.get("site", ""), LABEL)


def _filled(url: str, name: str, value: str, pattern: str) -> str:
    # Checked here once more: whatever stands in the URL decides who gets the credentials.
    if not re.fullmatch(pattern, value, re.ASCII):
        raise Misconfigured(f'setting "{name}" must be a bare name such as {_EXAMPLES[name]}, not {value!r}')
    return url.rstrip("/").replace(f"{{{name}}}", value)


_EXAMPLES = {"site": '"acme" of acme.atlassian.net', "cloud_id": '"11111111-2222-4333-8444-555555555555"'}


def headers(account: Account, secrets: Mapping[str, Any]) -> dict[str, str]:
    """Return the Authorization header; raise Misconfigured when a secret is missing."""
    if account.auth == "oauth":
        return {"Authorization": f"Bearer {_needed(secrets, 'access_token', 'press Connect')}"}
    token = _needed(secrets, "api_token", "make one at id.atlassian.com, without scopes")
    pair = f"{account.settings.get('email', '')}:{token}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _needed(secrets: Mapping[str, Any], name: str, advice: str) -> str:
    value = secrets.get(name)
    if not isinstance(value, str) or not value:
        raise Misconfigured(f'the secret "{name}" is missing: {advice}')
    return value


def token_call(account: Account, secrets: Mapping[str, Any], urls: Mapping[str, str]) -> TokenCall | None:
    """Return the refresh request, a JSON body; None for an API token and where no refresh token is known.

    The answer's refresh token replaces ours: each refresh ends the one before.
    """
    refresh_token = secrets.get("refresh_token")
    if account.auth != "oauth" or not refresh_token:
        return None
    grant = {"grant_type": "refresh_token", "client_id": account.settings.get("client_id", ""), "refresh_token": refresh_token}
    grant["client_secret"] = _needed(secrets, "client_secret", "copy it from the app's page in the developer console")
    return TokenCall(f"{urls['ATLASSIAN_AUTH_URL'].rstrip('/')}/oauth/token", json=grant)


# --- Consent in the browser


def scopes(account: Account) -> tuple[str, ...]:
    """Return the scopes that the connection asks for."""
    # Settings are text here.
    return (*SCOPES, *FIELD_SCOPES) if account.settings.get("create_fields") == "True" else SCOPES


def authorize(account: Account, urls: Mapping[str, str], going: Going) -> str:
    """Return the address of Atlassian's consent page; the site is chosen there.

    https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/#1--direct-the-user-to-the-authorization-url-to-get-an-authorization-code
    """
    # Only `prompt=consent` lets a person choose another site of the same grant.
    asked = {
        "audience": "api.atlassian.com",
        "client_id": account.settings.get("client_id", ""),
        "scope": " ".join(scopes(account)),
        "redirect_uri": going.redirect_uri,
        "state": going.state,
        "response_type": "code",
        "prompt": "consent",
    }
    return f"{urls['ATLASSIAN_AUTH_URL'].rstrip('/')}/authorize?{urlencode(asked)}"


def exchange(account: Account, secrets: Mapping[str, Any], urls: Mapping[str, str], back: Back) -> TokenCall:
    """Return the request that turns a code into tokens, a JSON body. Raises Misconfigured without a client secret.

    https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/#2--exchange-authorization-code-for-access-token
    """
    grant = {
        "grant_type": "authorization_code",
        "client_id": account.settings.get("client_id", ""),
        "client_secret": _needed(secrets, "client_secret", "copy it from the app's page in the developer console"),
        "code": back.code,
        "redirect_uri": back.redirect_uri,
    }
    return TokenCall(f"{urls['ATLASSIAN_AUTH_URL'].rstrip('/')}/oauth/token", json=grant)


def revoke(account: Account, secrets: Mapping[str, Any], urls: Mapping[str, str]) -> Revocation | None:
    """Return nothing: Atlassian has no endpoint for it; the person takes the consent back at id.atlassian.com."""
    return None


CONSENT = Consent(
    authorize=authorize,
    exchange=exchange,
    revoke=revoke,
    scopes=scopes,
    place=lambda account: account.settings.get("cloud_id", "").lower(),
    place_word="site",
    one_grant=True,
    steps=(
        ("At developer.atlassian.com, Console, create an OAuth 2.0 integration or open yours.", ""),
        ("Under Authorization, OAuth 2.0 (3LO), enter this callback URL, letter by letter:", "redirect_uri"),
        ("Under Permissions add the Jira API with these classic scopes (offline_access is not listed there):", "scopes"),
        ("Copy Client ID and Secret from Settings into the connection.", ""),
        ("Take a user made for it: that user appears as the author of worklogs.", ""),
    ),
    note=(
        "Atlassian states that apps which collect API tokens, or which tell customers to create their own app as here, do not meet its "
        "security requirements, and counts copies of one app together. You run this software for yourself: read the policy and decide."
    ),
)
