"""Wave's stand-in with a business, a customer, and the source that reads them."""

from datetime import UTC, datetime

import requests

from integrations.core.ports import Account
from integrations.http import ApiClient
from integrations.sandbox.wave import Wave
from integrations.sandbox.wave_ledger import split_id
from integrations.sources.wave.adapter import WaveSource, unauthorized

UUID = "4f9a7c10-5c1e-4d0c-9c57-2f1d5e5a0001"
NOW = datetime(2026, 11, 21, 2, tzinfo=UTC)  # still the 20th in Toronto


def number(node: str) -> str:
    """Return the numeric part of a GraphQL id."""
    return split_id(node)[2]


class FixedToken:
    def __init__(self, token: str) -> None:
        self.token = token

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def renew(self, stale: dict[str, str]) -> bool:
        return False


class Story:
    """The stand-in's books, and a source that reads them over HTTP."""

    def __init__(self, url: str, wave: Wave) -> None:
        self.url = f"{url}/wave/graphql/public"
        self.wave = wave
        self.token = wave.add_token("full-access")
        self.business = wave.add_business("Acme Studio", business=UUID)
        address = {"line1": "1 Main St", "city": "Toronto", "province": "CA-ON", "postal_code": "M5V", "country": "CA"}
        self.customer = wave.add_customer(
            self.business, "Bright Bikes", email="ada@bright.example", first_name="Ada", last_name="Byron", address=address
        )

    def source(self, *, token: str = "", fallback: str = "UTC", **settings: str) -> WaveSource:
        account = Account("wave-main", "wave", "token", settings or {"business_id": UUID})
        api = ApiClient(self.url, FixedToken(token or self.token), requests.Session(), unauthorized=unauthorized)
        return WaveSource(api, account, fallback)

    def asked(self) -> int:
        return len(self.wave.calls)
