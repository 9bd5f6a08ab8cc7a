"""Sends a test delivery the way the source would: signed, through the public address, back to our own webhook."""

import hashlib
import time
import uuid
from dataclasses import dataclass

import requests
from django.conf import settings
from django.views.decorators.debug import sensitive_variables
from requests.exceptions import ConnectionError as NoConnection
from requests.exceptions import RequestException, SSLError, Timeout

from integrations import configuration, outgoing, registry, systems, webhook_secrets
from integrations.core.errors import Misconfigured
from integrations.models import Connection, Delivery

ADVICE = {
    301: "The address leads elsewhere: set PUBLIC_URL to the final address, for senders do not follow.",
    400: "Something before us, or Django's ALLOWED_HOSTS, refuses the host name: set PUBLIC_URL to the name that the world uses.",
    401: "We did not verify our own signature: let the proxy pass body and X-Wave-Signature unchanged, and set all clocks by NTP.",
    403: "A proxy or firewall refuses it: let POST to /webhooks/ pass without a login.",
    404: "Another server answers there, or the proxy cuts the path: let it pass /webhooks/ on unchanged.",
    405: "Something before us refuses POST: let POST to /webhooks/ pass.",
    413: "A proxy takes smaller bodies than we do: raise its limit above WEBHOOK_MAX_BYTES.",
    429: "A proxy limits how often it may be asked: exempt /webhooks/.",
    502: "The proxy does not reach this server: see that it runs, and where the proxy sends requests.",
    504: "The proxy waits for less time than we take: raise its time-out above WEBHOOK_DEADLINE.",
}
SERVER = "See this server's log."
ELSEWHERE = "The answer was 200, but it did not come from this installation: see where PUBLIC_URL leads."
TLS = "The certificate was refused: use one that a public authority signed, with its whole chain."
NAME = "The name of PUBLIC_URL could not be found: enter it in the DNS."
REFUSED = "Nothing listens at PUBLIC_URL as seen from here: see that the server and the proxy run, and what the firewall lets through."
SLOW = "No answer in time: see that the server has a free thread to answer itself, and that the firewall does not swallow packets."


@dataclass(frozen=True, slots=True)
class Trial:
    """How a test delivery went. `status` is None when no answer came; `advice` is empty when it arrived."""

    url: str
    arrived: bool
    status: int | None
    milliseconds: int
    detail: str
    advice: str = ""


@sensitive_variables()
def send(connection: Connection) -> Trial:
    """Send one test delivery signed with the newest secret; it is stored and does nothing. Raises Misconfigured."""
    entry = registry.SOURCES.get(connection.system)
    secrets = webhook_secrets.stored(connection.intake) if entry and hasattr(connection, "intake") else []
    if entry is None or not secrets:
        raise Misconfigured("There is no webhook secret yet: add the one that the sender shows.")
    body = entry.sample(entry.business(systems.account(connection)), f"test-{uuid.uuid4()}")
    return _posted(connection, body, entry.sign(body, secrets[-1], time.time()))


def _posted(connection: Connection, body: bytes, headers: dict[str, str]) -> Trial:
    url, started = configuration.webhook_url(connection), time.monotonic()
    try:
        with outgoing.PlainSession() as session:
            sent = {"Content-Type": "application/json", "User-Agent": "ml-connector", **headers}
            response = session.post(url, data=body, headers=sent, timeout=_timeout(), allow_redirects=False)
    except RequestException as error:
        return Trial(url, False, None, _since(started), type(error).__name__, _failure_advice(error))
    return _judged(connection, body, url, response, _since(started))


def _timeout() -> tuple[float, float]:
    return settings.HTTP_CONNECT_TIMEOUT, settings.WEBHOOK_DEADLINE + 2


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def _judged(connection: Connection, body: bytes, url: str, response: requests.Response, took: int) -> Trial:
    """Believe what was stored, not the status alone: anything may answer 200."""
    hashed = hashlib.sha256(body).hexdigest()
    stored = Delivery.objects.filter(connection__system=connection.system, body_hash=hashed).exists()
    arrived = response.status_code == 200 and stored
    detail = response.text[:200] if response.headers.get("Content-Type", "").startswith("text/plain") else ""
    return Trial(url, arrived, response.status_code, took, detail, "" if arrived else _status_advice(response.status_code))


def _status_advice(status: int) -> str:
    if status == 200:
        return ELSEWHERE
    if 300 <= status < 400:
        return ADVICE[301]
    return ADVICE.get(status, SERVER)


def _failure_advice(error: RequestException) -> str:
    if isinstance(error, SSLError):
        return TLS
    if isinstance(error, Timeout):
        return SLOW
    if isinstance(error, NoConnection) and "NameResolutionError" in repr(error.args):
        return NAME
    return REFUSED
