"""The ways into Wave: an OAuth grant that is refreshed, or a full-access token that lives until it is revoked."""

from collections.abc import Mapping
from typing import Any

from integrations.core.errors import Misconfigured
from integrations.core.ports import Access, Account, TokenCall


def base_url(account: Account, urls: Mapping[str, str]) -> str:
    """Return the one address of the GraphQL API; nothing of the account is part of it."""
    return urls["WAVE_GRAPHQL_URL"]


def headers(account: Account, secrets: Mapping[str, Any]) -> dict[str, str]:
    """Return the bearer token; raise Misconfigured when there is none yet."""
    token = secrets.get("access_token")
    if not token:
        raise Misconfigured(f'connection "{account.slug}" has no access token yet: press Connect, or give it one')
    return {"Authorization": f"Bearer {token}"}


def token_call(account: Account, secrets: Mapping[str, Any], urls: Mapping[str, str]) -> TokenCall | None:
    """Return the refresh request of an OAuth grant; None for a full-access token and for a grant without a refresh token."""
    if account.auth != "oauth" or not secrets.get("refresh_token"):
        return None
    # https://developer.waveapps.com/hc/en-us/articles/360019493652 (OAuth Guide): form encoded, the client in the body,
    # the trailing slash kept. redirect_uri is harmless here, and asked for by older pages.
    form = {
        "grant_type": "refresh_token",
        "refresh_token": str(secrets["refresh_token"]),
        "client_id": account.settings.get("client_id", ""),
        "client_secret": str(secrets.get("client_secret") or ""),
    }
    if account.settings.get("redirect_uri"):
        form["redirect_uri"] = account.settings["redirect_uri"]
    return TokenCall(f"{urls['WAVE_OAUTH_URL'].rstrip('/')}/token/", form=form)


ACCESS = Access(base_url=base_url, headers=headers, token_call=token_call)
