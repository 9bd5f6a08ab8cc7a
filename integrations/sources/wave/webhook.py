"""Wave's deliveries: whether they are signed, and what they say. Pure, and no input makes it raise.

https://developer.waveapps.com/hc/en-us/articles/47778664499220 (Webhooks Setup Guide)
"""

import hashlib
import hmac
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from integrations.core.events import TEST_EVENT, Event, Verdict, VerdictReason
from integrations.sources.wave.mapping import business_uuid, record_number

HEADER = "x-wave-signature"
MOST_SIGNATURES = 5
EVENT_ID_LENGTH, EVENT_TYPE_LENGTH = 200, 100


@dataclass(frozen=True, slots=True)
class Signature:
    """A header that keeps the grammar `t=<unix seconds>,v1=<hex>[,v1=<hex>...]`; `time` is the text as it was signed."""

    time: str
    digests: tuple[str, ...]


def verify(headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float, tolerance: int) -> Verdict:
    """Tell whether the raw body is signed with one of the secrets, within `tolerance` seconds of `now`, both ways."""
    header = _header(headers)
    if not header:
        return Verdict(False, VerdictReason.MISSING)
    signature = _signature(header)
    if signature is None:
        return Verdict(False, VerdictReason.BARE if _is_bare(header, body, secrets) else VerdictReason.MALFORMED)
    matching = _matching(signature.digests, f"{signature.time}.".encode() + body, secrets)
    if not matching:
        return Verdict(False, VerdictReason.MISMATCH)
    skew = int(signature.time) - now
    if abs(skew) > tolerance:
        return Verdict(False, VerdictReason.STALE, matching[0], skew)
    return Verdict(True, None, matching[0], skew)


def sign(body: bytes, secret: str, now: float) -> dict[str, str]:
    """Return the header with which Wave would send the body at this time."""
    stamp = int(now)
    digest = hmac.new(_key(secret), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {HEADER: f"t={stamp},v1={digest}"}


def sample(business: str, event_id: str) -> bytes:
    """Return a delivery in Wave's envelope that says nothing: no record is named in it."""
    return json.dumps({"event_id": event_id, "event_type": TEST_EVENT, "business_id": business, "data": {}}).encode()


def parse(body: bytes) -> Event | None:
    """Return what a delivery says; None when it cannot be read, or names no event."""
    payload = _payload(body)
    event_type = payload.get("event_type") if payload else None
    if not payload or not isinstance(event_type, str) or not event_type.strip():
        return None
    told = payload.get("data")
    data = told if isinstance(told, dict) else {}
    return Event(
        id=_event_id(payload.get("event_id")),
        type=event_type.strip()[:EVENT_TYPE_LENGTH],
        business=business_uuid(payload.get("business_id")),
        customer=record_number(data.get("customer_id"), "Customer"),
        invoice=record_number(data.get("invoice_id"), "Invoice"),
        payment=record_number(data.get("payment_id"), "InvoicePayment", "Payment"),
    )


# -- the signature -------------------------------------------------------------------------------------------------------------------


def _header(headers: Mapping[str, str]) -> str:
    """Return the header's value; a header that came twice is one with a comma (RFC 9110, 5.3)."""
    return ",".join(str(value) for name, value in headers.items() if str(name).lower() == HEADER).strip()


def _signature(header: str) -> Signature | None:
    times, digests = [], []
    for part in header.split(","):
        name, equals, value = part.strip(" \t").partition("=")
        if not equals:
            return None
        if name == "t":
            times.append(value)
        elif name == "v1":
            digests.append(value)
    if len(times) != 1 or not re.fullmatch(r"[0-9]{1,12}", times[0]):
        return None
    if not 1 <= len(digests) <= MOST_SIGNATURES or not all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in digests):
        return None
    return Signature(times[0], tuple(digests))


def _matching(digests: Sequence[str], signed: bytes, secrets: Sequence[str]) -> list[int]:
    """Return the numbers of the secrets that fit one of the digests."""
    # Every digest against every secret, whatever was found before: the time taken tells nothing.
    wanted = [(number, hmac.new(_key(secret), signed, hashlib.sha256).hexdigest()) for number, secret in enumerate(secrets) if secret]
    fits = [(number, hmac.compare_digest(digest, one)) for digest in digests for number, one in wanted]
    return [number for number, fit in fits if fit]


def _is_bare(header: str, body: bytes, secrets: Sequence[str]) -> bool:
    """Tell whether the header is a right signature of the body alone: real, but a replay of it would look the same."""
    match = re.fullmatch(r"(?:sha256=|v1=)?([0-9a-fA-F]{64})", header)
    return match is not None and bool(_matching([match[1].lower()], body, secrets))


def _key(secret: str) -> bytes:
    return secret.encode("utf-8", "surrogatepass")


# -- the body ------------------------------------------------------------------------------------------------------------------------


def _payload(body: bytes) -> dict[str, Any] | None:
    try:
        payload = json.loads(body.decode("utf-8"), parse_constant=_refuse)
        # ValueError: no UTF-8, no JSON, NaN, an integer of more than 4300 digits. RecursionError: nested too deeply.
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) and all(_is_storable(text) for text in _texts(payload)) else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError


def _texts(payload: Any) -> Iterator[str]:
    """Yield every text in the payload, names included, without recursion."""
    left = [payload]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            left += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            left += value


def _is_storable(text: str) -> bool:
    """Tell whether a database takes the text: no NUL, no half of a surrogate pair."""
    return not re.search("[\x00\ud800-\udfff]", text)


def _event_id(given: Any) -> str:
    return str(given)[:EVENT_ID_LENGTH] if isinstance(given, int | str) and not isinstance(given, bool) else ""
