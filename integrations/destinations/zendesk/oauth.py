"""Ways into a Zendesk account, as pure functions."""

import base64
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from integrations.core.errors import Misconfigured
from integrations.core.ports import Access, Account, Back, Consent, Going, Revocation, TokenCall

SUBDOMAIN = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
SCOPE = "read write"
# Zendesk takes less than 172,800 s and less than 7,776,000 s; its own defaults are 30 minutes and 30 days.
ACCESS_SECONDS = 172_000
REFRESH_SECONDS = 7_700_000
LIFETIMES = {"expires_in": ACCESS_SECONDS, "refresh_token_expires_in": REFRESH_SECONDS}


def base_url(account: Account, urls: Mapping[str, str]) -> str:
    """Return the account's address; raise Misconfigured for a subdomain that is no bare label."""
    subdomain = account.settings.get("subdomain", "")
    # The host of the token endpoint comes from what a person typed: `evil.example/x#` must never get that far.
    if not re.fullmatch(SUBDOMAIN, subdomain, re.ASCII):
        raise Misconfigured('"subdomain" is not valid: enter only the first word of your Zendesk address, e.g. acme for acme.zendesk.com')
    return urls["ZENDESK_URL"].replace("{subdomain}", subdomain).rstrip("/")


def headers(account: Account, secrets: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that prove who we are, none while there is no access token yet.

    https://developer.zendesk.com/api-reference/introduction/security-and-auth/
    """
    if account.auth == "api_token":
        return {"Authorization": f"Basic {_basic(account, secrets)}"}
    token = secrets.get("access_token")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _basic(account: Account, secrets: Mapping[str, Any]) -> str:
    login = f"{account.settings.get('email', '')}/token:{_secret(secrets, 'api_token')}"
    return base64.b64encode(login.encode()).decode()


def _secret(secrets: Mapping[str, Any], name: str) -> str:
    value = secrets.get(name)
    if not value:
        raise Misconfigured(f'"{name}" is missing: enter it at the connection')
    return str(value)


def token_call(account: Account, secrets: Mapping[str, Any], urls: Mapping[str, str]) -> TokenCall | None:
    """Return the request for a new access token, None where there is none to be had without a person.

    https://developer.zendesk.com/api-reference/ticketing/oauth/grant_type_tokens/
    """
    if account.auth == "client_credentials":
        return TokenCall(f"{base_url(account, urls)}/oauth/tokens", json=_client_grant(account, secrets))
    if account.auth == "oauth" and secrets.get("refresh_token"):
        return TokenCall(f"{base_url(account, urls)}/oauth/tokens", json=_refresh_grant(account, secrets))
    return None


def _client_grant(account: Account, secrets: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "grant_type": "client_credentials",
        "client_id": account.settings.get("client_id", ""),
        "client_secret": _secret(secrets, "client_secret"),
        "scope": account.settings.get("scope") or SCOPE,
        "expires_in": ACCESS_SECONDS,
    }


def _refresh_grant(account: Account, secrets: Mapping[str, Any]) -> dict[str, Any]:
    # No scope: a refresh keeps what was granted.
    return {"grant_type": "refresh_token", "refresh_token": secrets["refresh_token"], **_client(account, secrets), **LIFETIMES}


def _client(account: Account, secrets: Mapping[str, Any]) -> dict[str, Any]:
    # A public client has no secret.
    secret = {"client_secret": secrets["client_secret"]} if secrets.get("client_secret") else {}
    return {"client_id": account.settings.get("client_id", ""), **secret}


# --- Consent in the browser


def scopes(account: Account) -> tuple[str, ...]:
    """Return the scopes that the connection asks for."""
    return tuple((account.settings.get("scope") or SCOPE).split())


def authorize(account: Account, urls: Mapping[str, str], going: Going) -> str:
    """Return the address of the account's consent page, with PKCE. Raises Misconfigured for a bad subdomain.

    https://developer.zendesk.com/api-reference/ticketing/oauth/grant_type_tokens/
    """
    asked = {
        "response_type": "code",
        "client_id": account.settings.get("client_id", ""),
        "redirect_uri": going.redirect_uri,
        "scope": " ".join(scopes(account)),
        "state": going.state,
        "code_challenge": going.challenge,
        "code_challenge_method": "S256",
    }
    return f"{base_url(account, urls)}/oauth/authorizations/new?{urlencode(asked)}"


def exchange(account: Account, secrets: Mapping[str, Any], urls: Mapping[str, str], back: Back) -> TokenCall:
    """Return the request that turns a code into tokens, a JSON body. Raises Misconfigured for a bad subdomain.

    https://developer.zendesk.com/api-reference/ticketing/oauth/grant_type_tokens/
    """
    grant = {
        "grant_type": "authorization_code",
        "code": back.code,
        "redirect_uri": back.redirect_uri,
        "scope": " ".join(scopes(account)),
        "code_verifier": back.verifier,
    }
    return TokenCall(f"{base_url(account, urls)}/oauth/tokens", json={**grant, **_client(account, secrets), **LIFETIMES})


def revoke(account: Account, secrets: Mapping[str, Any], urls: Mapping[str, str]) -> Revocation | None:
    """Return the request that ends the token in use and the refresh token paired with it; API tokens have none.

    https://developer.zendesk.com/api-reference/ticketing/oauth/oauth_tokens/#revoke-token
    """
    token = secrets.get("access_token")
    if account.auth == "api_token" or not token:
        return None
    url = f"{base_url(account, urls)}/api/v2/oauth/tokens/current.json"
    return Revocation("DELETE", url, headers={"Authorization": f"Bearer {token}"})


CONSENT = Consent(
    authorize=authorize,
    exchange=exchange,
    revoke=revoke,
    scopes=scopes,
    place=lambda account: account.settings.get("subdomain", ""),
    place_word="account",
    pkce=True,
    code_lives="2 minutes",
    steps=(
        ("In Zendesk's Admin Center open Apps and integrations, APIs, OAuth clients, and add a client, kind Confidential.", ""),
        ("Enter this redirect URL, letter by letter:", "redirect_uri"),
        ("Copy the unique identifier (client ID) and the secret, which is shown once, into the connection.", ""),
        ("Where the client limits its scopes, allow these:", "scopes"),
        ("The connection acts as the person who connects: an admin for set-up, at least an agent without restrictions for syncing.", ""),
    ),
    note="Every plan of Zendesk Support and Suite will do; custom objects need a Suite plan or Support Enterprise.",
)
ACCESS = Access(base_url=base_url, headers=headers, token_call=token_call)
