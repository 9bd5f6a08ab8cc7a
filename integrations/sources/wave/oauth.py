"""The ways into Wave: an OAuth grant that is refreshed, or a full-access token that lives until it is revoked."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from integrations.core.errors import Misconfigured
from integrations.core.ports import Access, Account, Back, Consent, Going, Revocation, TokenCall
from integrations.sources.wave import mapping

# `write` does not include `read`, and a grant that lacks one of these gets no webhooks without anybody saying so.
# https://developer.waveapps.com/hc/en-us/articles/360032818132 (OAuth Scopes)
SCOPES = ("user:read", "business:read", "customer:read", "invoice:read")


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


# --- Consent in the browser


def authorize(account: Account, urls: Mapping[str, str], going: Going) -> str:
    """Return the address of Wave's consent page, with the business chosen already where the settings name one.

    https://developer.waveapps.com/hc/en-us/articles/360019493652 (OAuth Guide)
    """
    # `force` shows the page even to who consented before: else the business could not be chosen anew.
    asked = {
        "client_id": account.settings.get("client_id", ""),
        "response_type": "code",
        "scope": " ".join(SCOPES),
        "redirect_uri": going.redirect_uri,
        "state": going.state,
        "approval_prompt": "force",
    }
    uuid = business_of(account)
    if uuid:
        asked["businessId"] = mapping.node_id(uuid)
    return f"{_endpoint(urls, 'authorize')}?{urlencode(asked)}"


def exchange(account: Account, secrets: Mapping[str, Any], urls: Mapping[str, str], back: Back) -> TokenCall:
    """Return the request that turns a code into tokens: form encoded, the client in the body.

    https://developer.waveapps.com/hc/en-us/articles/360019493652 (OAuth Guide)
    """
    form = {"grant_type": "authorization_code", "code": back.code, "redirect_uri": back.redirect_uri}
    return TokenCall(_endpoint(urls, "token"), form=form | _client(account, secrets))


def revoke(account: Account, secrets: Mapping[str, Any], urls: Mapping[str, str]) -> Revocation | None:
    """Return the request that ends the grant; a full-access token can only be revoked in the portal.

    https://developer.waveapps.com/hc/en-us/articles/360019493652 (OAuth Guide)
    """
    token = secrets.get("refresh_token") or secrets.get("access_token")
    if account.auth != "oauth" or not token:
        return None
    return Revocation("POST", _endpoint(urls, "token-revoke"), form={"token": str(token)} | _client(account, secrets))


def business_of(account: Account) -> str:
    """Return the uuid of the configured business, "" when none is configured."""
    return mapping.business_uuid(account.settings.get("business_id", ""))


def _endpoint(urls: Mapping[str, str], name: str) -> str:
    return f"{urls['WAVE_OAUTH_URL'].rstrip('/')}/{name}/"


def _client(account: Account, secrets: Mapping[str, Any]) -> dict[str, str]:
    return {"client_id": account.settings.get("client_id", ""), "client_secret": str(secrets.get("client_secret") or "")}


CONSENT = Consent(
    authorize=authorize,
    exchange=exchange,
    revoke=revoke,
    scopes=lambda account: SCOPES,
    place=business_of,
    place_word="business",
    steps=(
        ("In Wave's developer portal, Manage Applications, create an application or open yours.", ""),
        ("Enter this redirect URI, letter by letter:", "redirect_uri"),
        ("Copy Client ID and Client Secret into the connection.", ""),
        ("Under Webhooks enter this address and tick the invoice events:", "webhook_url"),
        ("Copy the secret that Wave shows once the address is saved into the connection's webhook secrets.", ""),
        ("Wave will ask the person who connects for these scopes:", "scopes"),
    ),
    note="Only businesses on an active Pro or Wave Advisor plan can be connected, and only such get webhooks.",
)
ACCESS = Access(base_url=base_url, headers=headers, token_call=token_call)
