"""Rows that tests of accounts and routes start from; every secret is a canary."""

import json
from typing import Any

from integrations.models import Connection, Credential, Intake, Route

CANARIES = ("canary-client-secret", "canary-access", "canary-refresh", "canary-api-token", "canary-new-access", "canary-new-refresh")
WAVE_SECRETS = {"client_secret": "canary-client-secret", "access_token": "canary-access", "refresh_token": "canary-refresh"}
BUSINESS = "4f1a3c6e-7b1d-4d5e-9c57-2f3a4b5c6d7e"


def connection(slug: str, system: str, auth: str, settings: dict[str, Any], secrets: dict[str, Any]) -> Connection:
    credential = Credential.objects.create(secrets=json.dumps(secrets))
    ready = Connection.Status.READY
    return Connection.objects.create(slug=slug, system=system, auth=auth, settings=settings, credential=credential, status=ready)


def wave(slug: str = "wave-main", **secrets: Any) -> Connection:
    settings = {"client_id": "wave-client", "business_id": BUSINESS}
    made = connection(slug, "wave", "oauth", settings, WAVE_SECRETS | secrets)
    Intake.objects.create(connection=made)
    return made


def zendesk(slug: str = "zendesk-acme", **secrets: Any) -> Connection:
    settings = {"subdomain": "acme", "client_id": "zendesk-client"}
    return connection(slug, "zendesk", "client_credentials", settings, {"client_secret": "canary-client-secret"} | secrets)


def zendesk_token(slug: str = "zendesk-old") -> Connection:
    settings = {"subdomain": "acme", "email": "ops@example.com"}
    return connection(slug, "zendesk", "api_token", settings, {"api_token": "canary-api-token"})


def route(slug: str = "wave-to-zendesk", *, source: Connection | None = None, destination: Connection | None = None) -> Route:
    kinds = ["customer", "invoice", "payment"]
    return Route.objects.create(slug=slug, source=source or wave(), destination=destination or zendesk(), kinds=kinds)


def held(connection_row: Connection) -> dict[str, Any]:
    """Return the secrets as the database has them now."""
    secrets: dict[str, Any] = json.loads(Credential.objects.get(pk=connection_row.credential_id).secrets)
    return secrets
