"""Staff and history rows for tests of the browser's pages."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth.models import Group, User
from django.test import Client

from audit.models import Attempt, Exchange, SyncJob
from audit.states import State
from integrations.models import Binding, Delivery, Route

THEN = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)


def signed_in(group: str = "") -> Client:
    """Return a browser of a staff user in this group; without a group of one who may do nothing."""
    user, _ = User.objects.get_or_create(username=group or "Nobody", is_staff=True)  # no password: hashing one is slow
    if group:
        user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client


def job_of(route: Route, number: int, **values: Any) -> SyncJob:
    """Store a job about an invoice of the route."""
    return SyncJob.objects.create(**{**job_values(route, number), "state": State.DEAD, **values})


def job_values(route: Route, number: int) -> dict[str, Any]:
    """Return what every job about this invoice carries."""
    return {
        "route_id": route.pk,
        "route_slug": route.slug,
        "source_id": route.source_id,
        "destination_id": route.destination_id,
        "system": route.destination.system,
        "kind": "invoice",
        "key": f"wave:b:invoice:{number}",
        "created_at": THEN + timedelta(minutes=number),
        "due_at": THEN + timedelta(minutes=number),
        "title": f"INV-{number}",
        "party": f"Customer {number}",
        "amount": f"{number}.00 EUR",
    }


def attempt_of(job: SyncJob, **values: Any) -> Attempt:
    """Store a closed attempt of the job with one exchange."""
    attempt = Attempt.objects.create(
        job=job, number=1, claim=uuid.uuid4(), started_by="worker", opened_at=THEN, closed_at=THEN, ending="rejected", **values
    )
    Exchange.objects.create(
        attempt=attempt, system=job.system, method="POST", path="/api/v2/things", sent_at=THEN, status=422, milliseconds=81
    )
    return attempt


def delivery_of(route: Route, body: bytes = b"{}", **values: Any) -> Delivery:
    """Store a delivery that came to the route's source."""
    given = {
        "connection": route.source,
        "event_type": "invoice.updated",
        "decision": "accepted",
        "body": body,
        "body_hash": uuid.uuid4().hex,
        "event_hash": "e",
        "received_at": THEN,
        "last_seen_at": THEN,
    }
    return Delivery.objects.create(**{**given, **values})


def binding_of(route: Route, number: int, **values: Any) -> Binding:
    """Store a binding of an invoice to a remote issue."""
    given = {"kind": "issue", "key": f"wave:b:invoice:{number}", "remote_id": str(10_000 + number), "title": f"INV-{number}"}
    return Binding.objects.create(**{"route": route, "state": "bound", **given, **values})
