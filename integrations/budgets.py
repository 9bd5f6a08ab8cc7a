"""What is known of an account's limits, shared by all workers and machines: taken from before each call, learnt from each answer."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta

from django.db.models import Case, F, Q, QuerySet, Value, When
from django.db.models.functions import Greatest
from django.utils import timezone

from integrations.models import Budget, Connection
from integrations.rates import Told

SAME_WINDOW = timedelta(seconds=2)  # whole seconds, a network's delay: two tellings of one end lie this near
LOOK_AGAIN = 0.05  # of the window, where all is used and the vendor does not say until when


def known(connection: Connection, fixed: Mapping[str, tuple[int, int]]) -> dict[str, Budget]:
    """Return the budgets by bucket; the fixed ones (calls, seconds) are made where they are missing."""
    rows = _rows(connection, fixed)
    other = {bucket for bucket, size in fixed.items() if bucket not in rows or (rows[bucket].limit, rows[bucket].window) != size}
    if other:
        now = timezone.now()
        made = [Budget(connection=connection, bucket=one, limit=fixed[one][0], window=fixed[one][1], resets_at=now) for one in other]
        Budget.objects.bulk_create(made, update_conflicts=True, unique_fields=["connection", "bucket"], update_fields=["limit", "window"])
        rows = _rows(connection, fixed)
    return rows


def _rows(connection: Connection, fixed: Collection[str]) -> dict[str, Budget]:
    """Return what answers told of, and what is fixed now: a limit that the operator has lifted is none any more."""
    held = Q(told_at__isnull=False) | Q(bucket__in=list(fixed))
    return {row.bucket: row for row in Budget.objects.filter(held, connection=connection)}


def take(row: Budget, *, share: float = 1.0) -> datetime | None:
    """Take one call from a budget, up to a share of it; return None, or when to come again where nothing is left.

    A conditional UPDATE whose row count decides: one statement, two when a window begins.
    """
    now = timezone.now()
    mine = Budget.objects.filter(pk=row.pk)
    if row.limit and _in_window(row, share, now):
        return None
    if row.limit and mine.filter(limit__gt=0, resets_at__lte=now).update(used=1, resets_at=now + timedelta(seconds=row.window)):
        return None
    # Of two workers that begin a new window at once, the second finds it begun.
    if row.limit and _in_window(row, share, now):
        return None
    until = mine.values_list("resets_at", flat=True).first()
    return until if until is not None and until > now else None


def _in_window(row: Budget, share: float, now: datetime) -> bool:
    room = Q(used__lt=F("limit")) if share >= 1 else Q(used__lt=F("limit") * share) | Q(used=0)
    return bool(Budget.objects.filter(room, pk=row.pk, limit__gt=0, resets_at__gt=now).update(used=F("used") + 1))


def learn(connection: Connection, told: Iterable[Told]) -> None:
    """Correct the budgets by what an answer told: one statement each. What the vendor says is left is the truth.

    The account's other tools use it up too. Within a window nothing is given back: calls of ours may be under way
    that the answer does not know of.
    """
    now = timezone.now()
    for one in told:
        if not _correct(Budget.objects.filter(connection=connection, bucket=one.bucket), one, now):
            _make(connection, one, now)


def _correct(rows: QuerySet[Budget], one: Told, now: datetime) -> int:
    if not one.limit:  # only a time to wait for
        return rows.update(used=F("limit"), resets_at=Greatest(F("resets_at"), Value(one.resets_at)), told_at=now)
    used = max(0, one.limit - one.remaining)
    size = {"limit": one.limit, "window": one.window, "told_at": now}
    if one.resets_at is None:
        end = {"resets_at": Value(now + timedelta(seconds=max(1.0, one.window * LOOK_AGAIN)))} if not one.remaining else {}
        return rows.update(used=used, **end, **size)
    same = When(resets_at__gt=one.resets_at - SAME_WINDOW, then=Greatest(F("used"), Value(used)))
    return rows.update(used=Case(same, default=Value(used)), resets_at=one.resets_at, **size)


def _make(connection: Connection, one: Told, now: datetime) -> None:
    resets_at = one.resets_at or now + timedelta(seconds=one.window)
    used = max(0, one.limit - one.remaining)
    row = Budget(connection=connection, bucket=one.bucket, limit=one.limit, window=one.window, used=used, resets_at=resets_at, told_at=now)
    Budget.objects.bulk_create([row], ignore_conflicts=True)
    if not connection.budgeted:
        connection.budgeted = True
        Connection.objects.filter(pk=connection.pk).update(budgeted=True)
