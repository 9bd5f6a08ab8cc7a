"""The record of what was done: what jobs are about, every HTTP exchange, and the machines' heartbeats."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Min
from django.utils import timezone

from audit.models import Attempt, Exchange, Heartbeat, SyncJob

HEARTBEAT_GAP = timedelta(seconds=150)
FORGOTTEN_AFTER = timedelta(days=1)


def describe(job: SyncJob, *, title: str, party: str, amount: str, customer_key: str = "") -> None:
    """Note what the record is called, for lists and search, once a read has told."""
    values = {"title": title[:255], "party": party[:255], "amount": amount[:40]}
    if customer_key:
        values["customer_key"] = customer_key
    if any(getattr(job, name) != value for name, value in values.items()):
        SyncJob.objects.filter(pk=job.pk).update(**values)
        for name, value in values.items():
            setattr(job, name, value)


def describe_many(told: Sequence[tuple[SyncJob, Mapping[str, str]]]) -> None:
    """Note what many records are called, each as `describe` does; a few statements."""
    names = {"title": 255, "party": 255, "amount": 40, "customer_key": 120}
    changed = []
    for job, values in told:
        news = {name: values[name][: names[name]] for name in values if values[name] or name != "customer_key"}
        if any(getattr(job, name) != value for name, value in news.items()):
            for name, value in news.items():
                setattr(job, name, value)
            changed.append(job)
    SyncJob.objects.bulk_update(changed, list(names))


def enter_exchange(attempts: Sequence[Attempt], *, system: str, method: str, path: str) -> list[Exchange]:
    """Enter a request before it is sent, so that a worker that dies leaves a trace of it."""
    now = timezone.now()
    rows = [Exchange(attempt=attempt, system=system, method=method, path=path[:500], sent_at=now) for attempt in attempts]
    return Exchange.objects.bulk_create(rows)


def answer_exchange(rows: Sequence[Exchange], *, status: int | None, milliseconds: int, request_id: str = "") -> None:
    """Add the answer; a status of None says that none came."""
    Exchange.objects.filter(pk__in=[row.pk for row in rows]).update(status=status, milliseconds=milliseconds, request_id=request_id[:120])


def beat(name: str = "", *, stopped: bool = False) -> None:
    """Note that this machine's cluster lives, or that it was stopped in good order.

    A machine that comes anew joins the memory of those that live: only where none did, `since` begins now.
    """
    now = timezone.now()
    values = {"since": remembers_since() or now, "beat_at": now, "stopped": stopped}
    Heartbeat.objects.update_or_create(name=name or settings.WORKER_NAME, defaults=values)


def is_silent(name: str, *, for_longer_than: float = HEARTBEAT_GAP.total_seconds()) -> bool:
    """Whether a machine's cluster has not beaten for so many seconds."""
    return not Heartbeat.objects.filter(name=name, beat_at__gt=timezone.now() - timedelta(seconds=for_longer_than)).exists()


def remembers_since() -> datetime | None:
    """Return since when our memory is known to be unbroken; None when no worker is alive on any machine.

    A database restored from a backup shows as a gap in every heartbeat: what the source created before that may
    have been written by us without our knowing.
    """
    living = Heartbeat.objects.filter(beat_at__gt=timezone.now() - HEARTBEAT_GAP)
    since: datetime | None = living.aggregate(since=Min("since"))["since"]
    return since


def forget_machines() -> None:
    """Drop the beats of machines that have been away for a day; the newest stays, for it says since when nobody works."""
    newest = Heartbeat.objects.order_by("-beat_at").values_list("pk", flat=True).first()
    Heartbeat.objects.filter(beat_at__lt=timezone.now() - FORGOTTEN_AFTER).exclude(pk=newest).delete()
