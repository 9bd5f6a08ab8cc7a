"""Wave's deliveries as an application sees them: the body, the signature and the sending."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import requests

EVENTS = (
    "customer.created",
    "customer.updated",
    "invoice.created",
    "invoice.updated",
    "payment.created",
    "invoice.approved",
    "invoice.sent",
    "invoice.viewed",
    "invoice.paid",
    "invoice.partially_paid",
    "invoice.overpaid",
    "invoice.overdue",
    "estimate.accepted",
)


def envelope(event_type: str, *, event_id: str, business_id: str, data: Mapping[str, Any]) -> bytes:
    """Return the JSON body of a delivery; `data` holds snake_case names, amounts as decimal strings, dates as YYYY-MM-DD.

    https://developer.waveapps.com: Webhooks Setup Guide.
    """
    return json.dumps({"event_id": event_id, "event_type": event_type, "business_id": business_id, "data": dict(data)}).encode()


def signed_headers(body: bytes, secret: str, at: datetime | None = None) -> dict[str, str]:
    """Return the headers of a delivery: lower-case hex HMAC-SHA256 over `<unix time>.<body>`, the secret taken as UTF-8 text."""
    stamp = str(int((at or datetime.now(UTC)).timestamp()))
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Content-Type": "application/json", "x-wave-signature": f"t={stamp},v1={digest}", "x-wave-timestamp": stamp}


def deliver(url: str, body: bytes, secret: str, at: datetime | None = None, *, timeout: float = 30) -> requests.Response:
    """Post one signed delivery and return the answer, redirects not followed."""
    return requests.post(url, data=body, headers=signed_headers(body, secret, at), timeout=timeout, allow_redirects=False)
