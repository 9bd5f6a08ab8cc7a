"""The story the demonstration plays, told line by line, and what must stand at its end."""

import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import requests
from django.utils import timezone

from audit.models import SyncJob
from audit.states import State
from integrations.core.records import key_digest
from integrations.models import Delivery
from integrations.sandbox.jira import Jira
from integrations.sandbox.server import Fault
from integrations.sandbox.wave import Wave
from integrations.sandbox.zendesk import Zendesk

PATIENCE = 90.0  # seconds for the workers to settle what is derived or was put off


@dataclass(slots=True)
class Teller:
    """Plays the story against a running site; `say` prints one line."""

    wave: Wave
    zendesk: Zendesk
    jira: Jira
    webhook_url: str
    say: Callable[[str], None]
    problems: list[str] = field(default_factory=list)

    def expect(self, right: bool, what: str) -> None:
        """Note what did not come out as the story says."""
        if not right:
            self.problems.append(what)
            self.say(f"    NOT AS IT SHOULD BE: {what}")

    def deliver(self, body: bytes, *, expected: int = 200) -> requests.Response:
        """Send one signed delivery and tell what came of it."""
        started = time.monotonic()
        response = self.wave.deliver(self.webhook_url, body, os.environ["WAVE_WEBHOOK_SECRET"])
        retry = f", Retry-After {response.headers['Retry-After']} s" if "Retry-After" in response.headers else ""
        self.say(f"    webhook answered {response.status_code} in {(time.monotonic() - started) * 1000:.0f} ms{retry}")
        self.tell_jobs(body)
        self.expect(response.status_code == expected, f"the webhook answered {response.status_code}, not {expected}")
        return response

    def tell_jobs(self, body: bytes) -> None:
        """Print the jobs of a delivery."""
        found = Delivery.objects.filter(body=body).first()
        for job in SyncJob.objects.filter(pk__in=found.job_ids if found else []).order_by("route_slug"):
            came = job.result or job.error_code or "waiting"
            self.say(f"    job {job.pk}  {job.route_slug}: {job.state}, {came}")

    def event(self, kind: str, **about: Any) -> bytes:
        """Return the body of a delivery."""
        return self.wave.event(kind, **about)


def play(teller: Teller, business: str) -> None:
    """Play everything; what went wrong is in `teller.problems` afterwards."""
    wave, say = teller.wave, teller.say
    say("1. A customer is created in Wave")
    customer = wave.add_customer(
        business, "Northwind Bakery", first_name="Ada", last_name="Miller", email="ada@northwind.example", phone="+1 416 555 0100"
    )
    teller.deliver(teller.event("customer.created", customer=customer))
    invoice = _sell(teller, customer)
    _overdue(teller, customer)
    _forge(teller, invoice)
    _triple(teller, invoice)
    _outage(teller, invoice)
    _wait_until_quiet(teller)
    _check(teller, invoice, customer)


def _sell(teller: Teller, customer: str) -> str:
    wave, say = teller.wave, teller.say
    today = timezone.now().date()
    say("2. An invoice is drafted: 120.00 USD")
    invoice = wave.add_invoice(customer, "INV-1001", total="120.00", due_date=today + timedelta(days=30))
    teller.deliver(teller.event("invoice.created", invoice=invoice))
    say("3. It is approved and sent")
    wave.approve(invoice)
    wave.send(invoice)
    teller.deliver(teller.event("invoice.sent", invoice=invoice))
    say("4. The customer looks at it")
    wave.view(invoice)
    teller.deliver(teller.event("invoice.viewed", invoice=invoice))
    say("5. 50.00 arrive")
    wave.pay(invoice, "50.00", "BANK_TRANSFER", today)
    teller.deliver(teller.event("invoice.partially_paid", invoice=invoice))
    say("6. The other 70.00 arrive: paid")
    wave.pay(invoice, "70.00", "CREDIT_CARD", today)
    teller.deliver(teller.event("invoice.paid", invoice=invoice))
    return invoice


def _overdue(teller: Teller, customer: str) -> None:
    teller.say("7. Another invoice passes its due date")
    late = teller.wave.add_invoice(
        customer,
        "INV-1002",
        total="80.00",
        invoice_date=timezone.now().date() - timedelta(days=42),
        due_date=timezone.now().date() - timedelta(days=12),
    )
    teller.wave.approve(late)
    teller.wave.send(late)
    teller.wave.mark_overdue(late)
    teller.deliver(teller.event("invoice.overdue", invoice=late))


def _forge(teller: Teller, invoice: str) -> None:
    teller.say("8. Somebody forges a delivery")
    stored = Delivery.objects.count()
    response = teller.wave.deliver(teller.webhook_url, teller.event("invoice.paid", invoice=invoice), "a guessed secret")
    teller.say(f"    webhook answered {response.status_code}, nothing stored")
    teller.expect(response.status_code == 401 and Delivery.objects.count() == stored, "the forged delivery was not turned away")


def _triple(teller: Teller, invoice: str) -> None:
    teller.say("9. The same delivery comes three times at once")
    teller.wave.change_invoice(invoice, po_number="PO-77")
    body = teller.event("invoice.updated", invoice=invoice)
    with ThreadPoolExecutor(3) as threads:
        sent = [threads.submit(teller.wave.deliver, teller.webhook_url, body, os.environ["WAVE_WEBHOOK_SECRET"]) for _ in range(3)]
        answers = [future.result().status_code for future in sent]
    teller.say(f"    webhook answered {', '.join(map(str, answers))}; stored once")
    teller.tell_jobs(body)
    teller.expect(answers == [200, 200, 200], "not all three were answered 200")
    teller.expect(Delivery.objects.filter(body=body).count() == 1, "the tripled delivery was not stored once")


def _outage(teller: Teller, invoice: str) -> None:
    teller.say("10. Jira is down for a moment while the total changes to 150.00")
    outage = Fault("status", path="/rest/", times=0, status=503, body={"message": "maintenance"})
    teller.jira.faults.append(outage)
    teller.wave.change_invoice(invoice, total="150.00")
    body = teller.event("invoice.updated", invoice=invoice)
    teller.deliver(body, expected=503)
    teller.jira.faults.remove(outage)
    teller.say("    Jira is back; Wave delivers again")
    teller.deliver(body)


def _wait_until_quiet(teller: Teller) -> None:
    teller.say("    the workers finish what is left (Zendesk takes 5 updates a minute per organization: the rest waits its turn)")
    end = time.monotonic() + PATIENCE
    while SyncJob.objects.filter(state__in=[State.PENDING, State.RUNNING]).exists() and time.monotonic() < end:
        time.sleep(0.2)


def _check(teller: Teller, invoice: str, customer: str) -> None:
    """Compare all three systems with what the story says."""
    teller.say("11. What stands now")
    _check_zendesk(teller)
    _check_jira(teller)
    unsettled = SyncJob.objects.exclude(state__in=[State.SUCCEEDED, State.SUPERSEDED])
    left = list(unsettled.values_list("route_slug", "kind", "state", "error_code"))
    teller.expect(not left, f"jobs left: {left}")
    settled = SyncJob.objects.filter(state=State.SUCCEEDED).count()
    teller.say(f"    {settled} jobs succeeded, {Delivery.objects.count()} deliveries stored")


def _check_zendesk(teller: Teller) -> None:
    state = teller.zendesk.state()
    organizations = state["organizations"]
    teller.expect([row["name"] for row in organizations] == ["Northwind Bakery"], "Zendesk has not exactly one organization")
    shown = organizations[0]["organization_fields"] if organizations else {}
    money = f"outstanding {shown.get('wave_outstanding')}, overdue {shown.get('wave_overdue')}"
    teller.say(f"    Zendesk organization Northwind Bakery: {money}")
    teller.expect(shown.get("wave_outstanding") == "110.00", f"outstanding is {shown.get('wave_outstanding')}, not 110.00")
    teller.expect(shown.get("wave_overdue") == "80.00", f"overdue is {shown.get('wave_overdue')}, not 80.00")
    teller.expect([row["email"] for row in state["users"]].count("ada@northwind.example") == 1, "Zendesk has not exactly one such user")
    records = {entry["key"]: entry["records"] for entry in state["custom_objects"]}
    found = {row["name"]: row["custom_object_fields"] for row in records.get("wave_invoice", [])}
    totals = {name: (fields.get("total"), fields.get("status")) for name, fields in sorted(found.items())}
    wanted = {"INV-1001": ("150.00", "PARTIAL"), "INV-1002": ("80.00", "OVERDUE")}
    teller.say(f"    Zendesk invoice records: {json.dumps(totals)}; payments: {len(records.get('wave_payment', []))}")
    teller.expect(totals == wanted, f"invoice records are {totals}")
    teller.expect(len(records.get("wave_payment", [])) == 2, "Zendesk has not exactly two payment records")
    teller.expect(not state["violations"], f"Zendesk's rules were broken: {state['violations']}")


def _check_jira(teller: Teller) -> None:
    issues = teller.jira.state()["issues"]
    for key, issue in issues.items():
        teller.say(f"    Jira {key}: {issue['summary']} [{issue['status']}], {len(issue['worklogs'])} worklogs")
    labels = [label for issue in issues.values() for label in issue["labels"] if label.startswith("wave-inv-")]
    wanted = {f"wave-inv-{key_digest(job.key)}" for job in SyncJob.objects.filter(kind="invoice")}
    teller.expect(sorted(labels) == sorted(wanted), "Jira has not exactly one issue per invoice")
    found = sorted((issue["status"], len(issue["worklogs"])) for issue in issues.values())
    teller.expect(found == [("In Progress", 0), ("In Progress", 2)], f"statuses and worklogs are {found}")
    teller.expect(not teller.jira.violations, f"Jira's rules were broken: {teller.jira.violations}")
