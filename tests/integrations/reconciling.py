"""What tests of reconciles start from: destinations that hold all of Wave, as if it had been brought, and one run."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.utils import timezone

from integrations import converge, pipeline, reconcile, report, systems
from integrations.core.documents import Document, Link
from integrations.core.ports import Trace
from integrations.core.records import Business, Snapshot
from integrations.models import Binding, Connection, Finding, Route, Sweep
from tests.fakes import MODIFIED, FakeRemote, FakeWave

FAR = float("inf")
LATER = MODIFIED + timedelta(hours=1)
ZONE = "Europe/Berlin"


def brought(wave: FakeWave, *held: tuple[Route, FakeRemote]) -> None:
    """Let destinations hold all that Wave has, bound, as jobs would have brought it."""
    for route, remote in held:
        ids: dict[tuple[str, str], str] = {}
        rows = [_bound(route, remote, document, ids) for document in _documents(wave, route)]
        Binding.objects.bulk_create(rows)


def _documents(wave: FakeWave, route: Route) -> Iterator[Document]:
    adapter, trace = systems.destination(route), Trace(MODIFIED, "")
    seen = Snapshot(Business(wave.uuid, "Acme", ZONE, "EUR"), MODIFIED, date(2026, 5, 4))
    if "customer" in route.kinds:
        for customer in wave.customers.values():
            yield from adapter.documents("customer", replace(seen, customer=customer), trace)
    for invoice in wave.invoices.values():
        yield from adapter.documents("invoice", replace(seen, invoice=invoice), trace)


def _bound(route: Route, remote: FakeRemote, document: Document, ids: dict[tuple[str, str], str]) -> Binding:
    fields = {name: ids[(value.kind, value.key)] if isinstance(value, Link) else value for name, value in document.fields.items()}
    parent = document.parent
    remote_id = ids[(document.kind, document.key)] = remote.make(document.kind, document.key, fields)
    return Binding(
        route=route,
        kind=document.kind,
        key=document.key,
        remote_id=remote_id,
        parent=parent.key if parent and parent.key != document.key else "",
        state=Binding.State.BOUND,
        hashes=converge.digests(replace(document, fields=fields), ids.get((parent.kind, parent.key), "") if parent else ""),
        source_modified_at=document.modified_at,
        written_at=datetime(2026, 5, 5, tzinfo=UTC),
    )


def begun(source: Connection, **more: Any) -> Sweep:
    """Begin a reconcile."""
    return reconcile.begin(source, started_by="test", **more)[0]


def turned(sweep: Sweep, *, times: int = 1) -> Sweep:
    """Let a worker take its turn as soon as it is due, so many times."""
    for _ in range(times):
        Sweep.objects.filter(pk=sweep.pk).update(due_at=timezone.now())
        reconcile.carry_on(sweep, deadline=FAR)
        sweep.refresh_from_db()
    return sweep


def run(source: Connection, **more: Any) -> dict[str, Any]:
    """Run a reconcile to its end without the jobs that it asks for, and return its report."""
    return report.report(turned(begun(source, **more)))


def found(told: dict[str, Any]) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """Return route, title, reason and fields of all that was found."""
    return sorted((one["route"].removeprefix("wave-to-"), one["title"], one["reason"], tuple(one["fields"])) for one in told["findings"])


def reasons(sweep: Sweep) -> list[tuple[str, str]]:
    """Return the number of the record and the reason of all that was found so far."""
    return sorted((one.key.rsplit(":", 1)[1], one.reason) for one in Finding.objects.filter(sweep=sweep))


def work() -> None:
    """Let a worker run what is due."""
    pipeline.drain(started_by="worker", budget=30)
