"""A configured connector with its three stand-ins, in this process, as every measurement begins."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

from django.core.management import call_command

from audit import trail
from audit.models import Heartbeat
from integrations import configuration, inbox, systems, tasks
from integrations.bench import ground
from integrations.bench.clock import Clock
from integrations.demo import stage
from integrations.models import Connection, Route
from integrations.sandbox.jira import Jira
from integrations.sandbox.server import Call, StandIn, serving
from integrations.sandbox.wave import Wave
from integrations.sandbox.wave_webhooks import signed_headers
from integrations.sandbox.zendesk import Zendesk

CONFIGURATION = Path(stage.__file__).with_name("connector.toml")
BUSINESS = "4f9a7c10-5c1e-4d0c-9c57-2f1d5e5a0001"


@dataclass(slots=True)
class Site:
    """The stand-ins and the connector between them; `clock` is the one that all go by."""

    wave: Wave
    zendesk: Zendesk
    jira: Jira
    clock: Clock
    business: str = ""
    sent: int = field(default=0, init=False)

    @property
    def stand_ins(self) -> dict[str, StandIn]:
        """The stand-ins by their names."""
        return {"wave": self.wave, "zendesk": self.zendesk, "jira": self.jira}

    @property
    def source(self) -> Connection:
        """The connection to Wave."""
        return Connection.objects.get(system="wave")

    def route(self, system: str) -> Route:
        """Return the route to a system."""
        return Route.objects.select_related("destination").get(slug=f"wave-to-{system}")

    # --- The story

    def customer(self, name: str = "Northwind Bakery", **details: Any) -> str:
        """Add a customer at Wave."""
        email = f"{name.lower().replace(' ', '.')}@customers.example"
        return self.wave.add_customer(self.business, name, **{"first_name": "Ada", "last_name": "Miller", "email": email} | details)

    def invoice(self, customer: str, number: str = "INV-1", *, total: str = "120.00", **details: Any) -> str:
        """Add an invoice at Wave, approved and sent."""
        invoice = self.wave.add_invoice(customer, number, total=total, **details)
        self.wave.approve(invoice)
        self.wave.send(invoice)
        return invoice

    def deliver(self, event: str, **about: Any) -> inbox.Reply:
        """Hand the inbox one signed delivery, as the webhook's view does."""
        body = self.wave.event(event, **about)
        headers = signed_headers(body, os.environ["WAVE_WEBHOOK_SECRET"])
        self.sent += 1
        return inbox.receive("wave", self.source.uuid, headers, body)

    def work(self) -> None:
        """Let a worker run what is due."""
        trail.beat()
        tasks.sync([])

    def bring(self, invoice: str) -> None:
        """Bring an invoice and its customer to both destinations."""
        self.deliver("invoice.updated", invoice=invoice)
        self.work()

    # --- Counting

    def mark(self) -> dict[str, int]:
        """Return how many calls each stand-in has had so far."""
        return {name: len(one.calls) for name, one in self.stand_ins.items()}

    def since(self, mark: dict[str, int], system: str) -> list[Call]:
        """Return the calls to a stand-in since then."""
        return self.stand_ins[system].calls[mark[system] :]


@contextmanager
def standing(clock: Clock) -> Iterator[Site]:
    """Yield a connector that is set up in an empty database, with stand-ins that know nothing yet of its records."""
    ground.clear()
    wave, zendesk = Wave(clock.now), Zendesk(clock.now)
    wave.add_token(os.environ["WAVE_ACCESS_TOKEN"])
    zendesk.client_secret = os.environ["ZENDESK_CLIENT_SECRET"]
    site = Site(wave, zendesk, Jira(clock.now, api_token=os.environ["JIRA_API_TOKEN"]), clock)
    site.business = wave.add_business("Maple Consulting", business=BUSINESS)
    with clock.installed(), serving(site.stand_ins, int(os.environ["DEMO_SANDBOX_PORT"])):
        try:
            _set_up(site)
            yield site
        finally:
            systems.close_sessions()


def _set_up(site: Site) -> None:
    configuration.apply(CONFIGURATION.read_text(), {**os.environ, "WAVE_BUSINESS_ID": site.business})
    call_command("ping", stdout=StringIO())
    call_command("provision", stdout=StringIO())
    trail.beat()
    Heartbeat.objects.update(since=site.clock.now() - timedelta(days=1))  # our memory is whole: creates need no look-up first
