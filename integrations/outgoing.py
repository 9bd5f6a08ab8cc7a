"""What every outgoing connection keeps to: the operator's addresses, https, no redirects, no proxies, no cookies."""

import ipaddress
from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import SplitResult, urlsplit

import requests
from django.conf import settings
from requests.adapters import HTTPAdapter

from integrations.core.errors import Misconfigured

URL_SETTINGS = (
    "WAVE_GRAPHQL_URL",
    "WAVE_OAUTH_URL",
    "ZENDESK_URL",
    "JIRA_API_URL",
    "JIRA_SITE_URL",
    "ATLASSIAN_AUTH_URL",
    "ATLASSIAN_API_URL",
)


def vendor_urls() -> Mapping[str, str]:
    """Return the vendors' addresses by the names of their settings."""
    return {name: str(getattr(settings, name)) for name in URL_SETTINGS}


def checked_url(url: str) -> str:
    """Return the URL; raise Misconfigured unless it is https, or plain http on loopback, and carries no user name."""
    try:
        parts = urlsplit(url)
        safe = bool(parts.hostname) and "@" not in parts.netloc and (parts.scheme == "https" or _plain_loopback(parts))
    except ValueError:  # an IPv6 address or port that is none
        safe = False
    if not safe:
        raise Misconfigured(f"{url!r} is no address for credentials: use https (plain http only on loopback, and no user name in it)")
    return url


def _plain_loopback(parts: SplitResult) -> bool:
    return parts.scheme == "http" and is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host name means this machine; no look-up is made."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class PlainSession(requests.Session):
    """A session that goes where it is told and nowhere else: credentials follow no redirect, proxy or .netrc."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        # An API answers by credentials alone; a kept cookie would make a session of it, with its own ideas of who we are.
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.mount("https://", HTTPAdapter(pool_connections=1, pool_maxsize=2, max_retries=0))
        self.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=2, max_retries=0))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Follow nothing, whatever a caller asked for."""


def timeout() -> tuple[float, float]:
    """Return the (connect, read) time-outs in seconds."""
    return settings.HTTP_CONNECT_TIMEOUT, settings.HTTP_TIMEOUT
