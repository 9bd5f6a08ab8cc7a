"""The two ways into Jira: an API token of a person, or OAuth 2.0 (3LO) through Atlassian's gateway.

https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/
https://developer.atlassian.com/cloud/jira/platform/basic-auth-for-rest-apis/
"""

import base64
import re
from collections.abc import Mapping
from typing import Any

from integrations.core.errors import Misconfigured
from integrations.core.ports import Account, TokenCall

LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
CLOUD_ID = rf"[0-9a-fA-F]{{8}}(-[0-9a-fA-F]{{4}}){{3}}-[0-9a-fA-F]{{12}}|{LABEL}"


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
