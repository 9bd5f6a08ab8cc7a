"""The health of a connection, as lines that people read: what works, what will stop working, and what to do about it."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from statistics import median

from django.conf import settings
from django.db.models import Count, Max, Q
from django.utils import timezone

from audit import outages
from audit.models import Hold, SyncJob
from audit.states import State
from integrations import oauth, polling, reconcile, refreshing, registry, remote_webhooks, report, systems, webhook_secrets
from integrations.models import Connection, Credential, Delivery, Intake, Route, Sweep, Watermark, WebhookSecret

POLL_LATE = timedelta(minutes=10)
RECONCILE_LATE = timedelta(hours=26)  # a day, and time to run it
CHECK_EVERY = timedelta(hours=1)
SILENT_AFTER = timedelta(hours=3)  # without a successful call, though one is made every hour
WARN_BEFORE = timedelta(days=90)  # of a way in that ends
QUIET_FACTOR, QUIET_LEAST, QUIET_MOST_GAPS, QUIET_FEWEST = 3, timedelta(hours=1), 50, 5
SKEW_PART = 0.25  # of the signing window
RECENT = timedelta(days=1)


class Level(StrEnum):
    """How much a line matters."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    FAILED = "failed"


SEVERITY = list(Level)
WORDS = {Level.OK: "healthy", Level.NOTE: "healthy", Level.WARNING: "look at it", Level.FAILED: "failing"}
STATUS_WORDS = {Connection.Status.INCOMPLETE: "not connected", Connection.Status.NEEDS_RECONNECT: "reconnect"}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that is known of a connection; `advice` says what to do where it is no good."""

    name: str
    level: Level
    detail: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """All that is known of a connection; `word` sums it up."""

    level: Level
    word: str
    account: tuple[Line, ...]
    work: tuple[Line, ...]
    webhook: tuple[Line, ...]

    @property
    def lines(self) -> tuple[Line, ...]:
        """Return every line."""
        return (*self.account, *self.work, *self.webhook)

    @property
    def problems(self) -> list[Line]:
        """Return the lines that ask for something to be done, the worst first."""
        asking = [line for line in self.lines if line.level in (Level.WARNING, Level.FAILED)]
        return sorted(asking, key=lambda line: -SEVERITY.index(line.level))


def of(connection: Connection, now: datetime | None = None) -> Health:
    """Return the health of a connection from what is stored; makes no calls and reads no secret."""
    now = now or timezone.now()
    credential = Credential.objects.defer("secrets").get(pk=connection.credential_id)
    intake = Intake.objects.defer("secrets").filter(connection=connection).first()
    account = tuple(_account(connection, credential, now))
    work = tuple(_work(connection, now))
    webhook = (*_remote(connection, now), *(_webhook(connection, intake, now) if intake else ()))
    level = max((line.level for line in (*account, *work, *webhook)), key=SEVERITY.index)
    word = STATUS_WORDS.get(Connection.Status(connection.status), WORDS[level])
    return Health(level, word, account, work, webhook)


def access(connection: Connection, now: datetime | None = None) -> tuple[Level, str, str]:
    """Return level, word and the first thing to look at, from the row and its credential alone: lists ask for many."""
    lines = sorted(_account(connection, connection.credential, now or timezone.now()), key=lambda line: -SEVERITY.index(line.level))
    worst = lines[0]
    word = STATUS_WORDS.get(Connection.Status(connection.status), WORDS[worst.level])
    first = worst.name if worst.level in (Level.WARNING, Level.FAILED) and worst.name != "connection" else ""
    return worst.level, word, first


def as_json(health: Health) -> dict[str, object]:
    """Return the health as JSON values."""
    told = [{"name": line.name, "level": str(line.level), "detail": line.detail, "advice": line.advice} for line in health.lines]
    return {"level": str(health.level), "word": health.word, "lines": told}


# --- The account -----------------------------------------------------------------------------------------------------


def _account(connection: Connection, credential: Credential, now: datetime) -> Iterator[Line]:
    yield _status(connection)
    yield _last_call(connection, now)
    yield _token(connection, credential, now)
    yield from _ending(connection, credential, now)
    yield from _scopes(connection, credential)
    yield from _checks(connection, now)


def _status(connection: Connection) -> Line:
    if connection.status == Connection.Status.READY:
        return Line("connection", Level.OK, "ready")
    if connection.status == Connection.Status.INCOMPLETE:
        return Line("connection", Level.WARNING, "not connected yet", "Enter what is missing, or press Connect.")
    return Line(
        "connection", Level.FAILED, connection.status_reason or "the grant is dead", "Connect again: what waits then runs by itself."
    )


def _last_call(connection: Connection, now: datetime) -> Line:
    name, at = "last successful call", connection.last_ok_at
    if at is None:
        return Line(name, Level.NOTE, "never", "Press Ping.")
    if connection.status == Connection.Status.READY and now - at > SILENT_AFTER:
        advice = "Press Ping. One is made every hour: see whether a worker runs (manage.py status)."
        return Line(name, Level.WARNING, moment(at, now), advice)
    return Line(name, Level.OK, moment(at, now))


def _token(connection: Connection, credential: Credential, now: datetime) -> Line:
    got = f"got {moment(credential.changed_at, now)}"
    if credential.expires_at is None:
        return Line(
            "token",
            Level.OK,
            f"{got}; its end is not known" if _is_granted(connection) else f"entered {moment(credential.changed_at, now)}",
        )
    told = f"{got}, ends {moment(credential.expires_at, now)}"
    if credential.expires_at <= now:
        return Line("token", Level.NOTE, f"{told}; the next call renews it")
    return Line("token", Level.OK, f"{told}, is renewed {moment(refreshing.renew_at(credential.expires_at, credential.changed_at), now)}")


def _is_granted(connection: Connection) -> bool:
    return connection.auth in ("oauth", "client_credentials")


def _ending(connection: Connection, credential: Credential, now: datetime) -> Iterator[Line]:
    """Say when the way in ends at the vendor, or a secret that a person entered is too old."""
    way_in = registry.entry(connection.system).system.auth(connection.auth)
    if way_in is not None and way_in.ends_on is not None:
        yield _end("way in", way_in.ends_on, now.date(), "The vendor takes it no more from then on: choose another way in before.")
    if way_in is not None and way_in.lives is not None:
        last = (credential.changed_at + way_in.lives).date()
        yield _end("secret", last, now.date(), "Make a new one at the vendor and enter it here.", at_the_latest=" at the latest")


def _end(name: str, last: date, today: date, advice: str, *, at_the_latest: str = "") -> Line:
    left = (last - today).days
    if left <= 0:
        return Line(name, Level.FAILED, f"ended on {last}", advice)
    detail = f"ends on {last}{at_the_latest}, in {left} {'day' if left == 1 else 'days'}"
    return Line(name, Level.WARNING if timedelta(days=left) <= WARN_BEFORE else Level.OK, detail, advice)


def _scopes(connection: Connection, credential: Credential) -> Iterator[Line]:
    """Compare what was granted with what is needed: Wave skips the events of a missing scope without a word."""
    consent = registry.entry(connection.system).consent
    if connection.auth != "oauth" or consent is None:
        return
    needed = consent.scopes(oauth.account(connection))
    if not credential.scope:
        yield Line("scopes", Level.NOTE, f"needed: {' '.join(needed)}; the vendor did not say what was granted")
        return
    lacking = lacking_scopes(needed, credential.scope.replace(",", " ").split())
    if lacking:
        yield Line(
            "scopes",
            Level.FAILED,
            f"not granted: {', '.join(lacking)}",
            "Connect again and grant them: their events and calls fail silently.",
        )
    else:
        yield Line("scopes", Level.OK, f"granted: {credential.scope}")


def lacking_scopes(needed: Iterable[str], granted: Iterable[str]) -> list[str]:
    """Return the needed scopes that none of the granted ones covers: `invoice:*` and `read` cover `invoice:read`.

    offline_access shows in the refresh token, and not every vendor lists it.
    """
    given = set(granted)
    return [scope for scope in needed if scope != "offline_access" and not given & _covering(scope)]


def _covering(scope: str) -> set[str]:
    area, _, verb = scope.partition(":")
    return {scope, f"{area}:*", verb} if verb in ("read", "write") else {scope}


def _checks(connection: Connection, now: datetime) -> Iterator[Line]:
    if connection.checked_at is None:
        yield Line("last ping", Level.NOTE, "never", "Press Ping.")
        return
    failed = [check for check in connection.checks if not check["ok"]]
    passed = f"{len(connection.checks) - len(failed)} of {len(connection.checks)} checks hold"
    yield Line("last ping", Level.OK, f"{moment(connection.checked_at, now)}: {passed}")
    for check in connection.checks:
        level = Level.OK if check["ok"] else Level.FAILED
        yield Line(f"check: {check['name']}", level, check["detail"] or str(level), "" if check["ok"] else check["advice"])


# --- Its work --------------------------------------------------------------------------------------------------------


def _work(connection: Connection, now: datetime) -> Iterator[Line]:
    yield _jobs(connection)
    yield from (_hold(row, now) for row in _holds(connection, now))
    polled = Watermark.objects.filter(connection__in=Route.objects.filter(source=connection).values("source"))
    yield from (_poll(row, now) for row in polled.order_by("kind"))
    yield from _reconcile(connection, now)


def _jobs(connection: Connection) -> Line:
    rows = SyncJob.objects.filter(Q(source_id=connection.pk) | Q(destination_id=connection.pk)).exclude(resolved_by__isnull=False)
    states = (State.PENDING, State.RUNNING, State.BLOCKED, State.DEAD)
    counted = dict(rows.filter(state__in=states).order_by().values_list("state").annotate(Count("pk")))
    detail = ", ".join(
        f"{counted.get(state, 0)} {word}" for state, word in zip(states, ("waiting", "running", "blocked", "dead"), strict=True)
    )
    if counted.get(State.DEAD):
        return Line("jobs", Level.WARNING, detail, "See what each dead job says, mend it, and replay.")
    if counted.get(State.BLOCKED):
        return Line("jobs", Level.WARNING, detail, "They go on once both accounts are connected.")
    return Line("jobs", Level.OK, detail)


def _holds(connection: Connection, now: datetime) -> Iterable[Hold]:
    routes = Route.objects.filter(Q(source=connection) | Q(destination=connection)).values_list("pk", flat=True)
    scopes = [f"connection:{connection.pk}", *(f"route:{pk}" for pk in routes)]
    return Hold.objects.filter(Q(until=None) | Q(until__gt=now) | Q(reason__in=outages.REASONS), scope__in=scopes).order_by("scope")


def _hold(row: Hold, now: datetime) -> Line:
    if row.reason == outages.REASON:
        advice = "Nothing to do: one call at a time is tried until the vendor answers. Ping tries at once."
        return Line("vendor", Level.FAILED, f"has not answered for {span(now - row.created_at)}", advice)
    if row.reason == outages.SLOW:
        advice = "Nothing to do: its jobs are run one after the other, so that others do not wait for it."
        return Line("vendor", Level.WARNING, f"answers slowly, last {span(now - row.created_at)} ago", advice)
    until = "until somebody ends it" if row.until is None else f"until {moment(row.until, now)}"
    return Line("hold", Level.NOTE if row.until else Level.WARNING, f"{row.scope.partition(':')[0]}: {row.reason}, {until}")


def _poll(row: Watermark, now: datetime) -> Line:
    """Say when a kind of record was polled to the end last, and what stands in the way."""
    last = "never yet" if row.polled_at is None else moment(row.polled_at, now)
    if row.due_at < now - POLL_LATE:
        return Line(f"poll: {row.kind}", Level.WARNING, last, "None is made: see whether a worker runs, and what else is told here.")
    if row.problem == polling.PASSED_OVER:
        return Line(f"poll: {row.kind}", Level.WARNING, f"{last}: {row.problem}", "Nothing to do; look at the next reconcile's report.")
    if row.problem:
        advice = "It is tried again by itself; nothing is missed meanwhile."
        return Line(f"poll: {row.kind}", Level.WARNING, f"{last}: {row.problem}", advice)
    return Line(f"poll: {row.kind}", Level.OK, last)


def _reconcile(connection: Connection, now: datetime) -> Iterator[Line]:
    """Say when all records of a source were compared last, and what came of it."""
    if not Route.objects.filter(source=connection).exists():
        return
    whole = Sweep.objects.filter(source=connection, purpose=Sweep.Purpose.RECONCILE, route=None, dry_run=False)
    done = whole.filter(state=Sweep.State.DONE).order_by("-ended_at").first()
    newest = whole.order_by("-created_at").first()
    last = moment(done.ended_at, now) if done is not None and done.ended_at is not None else "never yet"
    if newest is not None and newest.state == Sweep.State.FAILED:
        yield Line(
            "reconcile", Level.WARNING, f"{last}; the newest failed: {newest.problem}", "Mend that, then run one on the page Reconciles."
        )
    elif now - (done.created_at if done else connection.created_at) > RECONCILE_LATE:
        advice = "One is made each day: see whether a worker runs, or run one on the page Reconciles."
        yield Line("reconcile", Level.WARNING, last, advice)
    elif done is None:
        yield Line("reconcile", Level.NOTE, last, "The first runs by itself after midnight where the business is.")
    else:
        yield _agreement(done, last)


def _agreement(done: Sweep, last: str) -> Line:
    differing, money = done.findings.count(), done.disagreements.filter(agrees=False).order_by().values("customer_key").distinct().count()
    left_out = reconcile.still_left_out(done)
    if left_out:
        return Line("reconcile", Level.WARNING, f"{last}; not looked at: {', '.join(left_out)}", "See its report on the page Reconciles.")
    if money:
        return Line(
            "reconcile",
            Level.WARNING,
            f"{last}: the money of {money} customer{'' if money == 1 else 's'} differed",
            "See its report on the page Reconciles.",
        )
    left = done.figures.get("left_to_jobs", 0)
    agreed = f"what was compared agreed, {report.left_to_jobs(left)}" if left else "all agreed"
    return Line("reconcile", Level.OK, f"{last}: {f'{differing} findings, repairs asked for' if differing else agreed}")


# --- Its webhook -----------------------------------------------------------------------------------------------------


def _webhook(connection: Connection, intake: Intake, now: datetime) -> Iterator[Line]:
    verified = webhook_secrets.last_verified(intake)
    yield from _secrets(intake, verified, now)
    yield from _setup(intake, now)
    yield _quiet(connection, now)
    yield from _events(connection, now)
    yield _skew(webhook_secrets.smoothed_skew(intake))
    yield _stale(intake, now)
    yield _turned_away(intake, verified=bool(verified))


def _remote(connection: Connection, now: datetime) -> Iterator[Line]:
    """Say how the webhook that we registered at a destination is doing, and when it ends."""
    told = remote_webhooks.webhook_health(connection, now)
    if told is None:
        return
    if told.way == "by_hand":
        yield Line("registered by hand", Level.OK if told.registered else Level.NOTE, told.url, told.advice)
        return
    left = "its end is not known" if told.expires_at is None else f"ends {moment(told.expires_at, now)}"
    confirmed = "never confirmed" if told.refreshed_at is None else f"refreshed {moment(told.refreshed_at, now)}"
    detail = f"{left}, {confirmed}" if told.registered else "not registered"
    yield Line(
        "registration", Level.OK if told.ok else Level.WARNING, f"{detail}{': ' + told.problem if told.problem else ''}", told.advice
    )


def _secrets(intake: Intake, verified: Mapping[str, datetime], now: datetime) -> Iterator[Line]:
    known = list(WebhookSecret.objects.filter(intake=intake))
    if len(known) < 2:
        return
    newest = known[-1]
    if newest.fingerprint not in verified:
        detail = f"{len(known)} live; the newest, {newest.fingerprint}, is not used yet"
        advice = "Enter the new secret at the sender; the old one is taken meanwhile." if verified else ""
        yield Line("webhook secrets", Level.NOTE, detail, advice)
    else:
        detail = f"{len(known)} live; the newest was used {moment(verified[newest.fingerprint], now)}"
        yield Line("webhook secrets", Level.NOTE, detail, "Retire the old one on the page Webhook.")


def _setup(intake: Intake, now: datetime) -> Iterator[Line]:
    if intake.setup_until is not None and intake.setup_until > now:
        probe = f"a probe came {moment(intake.probed_at, now)}" if intake.probed_at else "no probe came yet"
        yield Line("set-up mode", Level.NOTE, f"on until {moment(intake.setup_until, now)}; {probe}")


def _quiet(connection: Connection, now: datetime) -> Line:
    """Compare the time since the last accepted delivery with what is usual for this account."""
    rows = Delivery.objects.filter(connection=connection, decision="accepted").order_by("-received_at")
    times = list(rows.values_list("received_at", flat=True)[: QUIET_MOST_GAPS + 1])
    name = "last delivery"
    if not times:
        return Line(name, Level.NOTE, "none was accepted yet", "Send a test delivery, and check the address and the events at the sender.")
    usual = usual_gap(times)
    if usual is None or now - times[0] <= usual:
        return Line(name, Level.OK, moment(times[0], now))
    detail = f"{moment(times[0], now)}: quiet for longer than usual (at most {span(usual)})"
    return Line(
        name, Level.WARNING, detail, "Send a test delivery, and check address, events and scopes at the sender. Polling goes on meanwhile."
    )


def usual_gap(newest_first: list[datetime]) -> timedelta | None:
    """Return after how long silence is unusual: three times the median gap, an hour at least; None while too few came."""
    if len(newest_first) < QUIET_FEWEST:
        return None
    gaps = [(later - earlier).total_seconds() for later, earlier in pairwise(newest_first)]
    return max(QUIET_LEAST, timedelta(seconds=QUIET_FACTOR * median(gaps)))


def _events(connection: Connection, now: datetime) -> Iterator[Line]:
    """Yield when each type of event came last; a type that stopped coming is seen here first."""
    rows = Delivery.objects.filter(connection=connection).exclude(event_type="").order_by()
    for event_type, last, count in rows.values_list("event_type").annotate(Max("received_at"), Count("pk")).order_by("event_type"):
        yield Line(f"event: {event_type}", Level.OK, f"{moment(last, now)}, {count} in all")


def _skew(skew: float | None) -> Line:
    window = settings.WEBHOOK_TOLERANCE
    if skew is None:
        return Line("clock", Level.NOTE, "not known: nothing has verified yet")
    detail = f"the sender's is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} ours; {window} s are allowed"
    if abs(skew) > window * SKEW_PART:
        return Line("clock", Level.WARNING, detail, "Set this machine's clock by NTP: deliveries outside the window are refused.")
    return Line("clock", Level.OK, detail)


def _stale(intake: Intake, now: datetime) -> Line:
    if not intake.stale_signed:
        return Line("stale but signed", Level.OK, "0")
    last = (
        ""
        if intake.stale_at is None
        else f", the last {moment(intake.stale_at, now)} with a time {span(timedelta(seconds=abs(intake.stale_skew or 0)))} off"
    )
    recent = intake.stale_at is not None and now - intake.stale_at < RECENT
    advice = "Check this machine's clock (NTP). What was missed is read by polling." if recent else ""
    return Line("stale but signed", Level.WARNING if recent else Level.NOTE, f"{intake.stale_signed}{last}", advice)


def _turned_away(intake: Intake, *, verified: bool) -> Line:
    detail = f"{intake.forged} wrongly signed, {intake.unsigned} unsigned, {intake.bare} signed without a time"
    if intake.forged and not verified:
        return Line(
            "turned away", Level.FAILED, detail, "Nothing has verified yet: the webhook secret is probably another one than the sender's."
        )
    return Line("turned away", Level.OK, detail)


# --- Kept current ----------------------------------------------------------------------------------------------------


def check_due(*, budget: float, now: datetime | None = None) -> int:
    """Ping the ready connections whose last ping is an hour old, the oldest first, for so many seconds; return how many."""
    now, end, done = now or timezone.now(), time.monotonic() + budget, 0
    old = Q(checked_at=None) | Q(checked_at__lte=now - CHECK_EVERY)
    for connection in Connection.objects.filter(old, status=Connection.Status.READY).order_by("checked_at", "pk"):
        if time.monotonic() >= end:
            break
        if not Connection.objects.filter(old, pk=connection.pk).update(checked_at=now):
            continue  # another worker pings it
        systems.ping(connection, insist=False)
        done += 1
    return done


# --- Times -----------------------------------------------------------------------------------------------------------


def moment(at: datetime, now: datetime) -> str:
    """Return a time as its distance from now."""
    if abs(now - at) < timedelta(seconds=1):
        return "just now"
    return f"{span(now - at)} ago" if at <= now else f"in {span(at - now)}"


def span(length: timedelta) -> str:
    """Return a length of time in its two largest units at most."""
    seconds = int(length.total_seconds())
    for size, word in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            rest = _rest(seconds % size, size)
            return f"{seconds // size} {word}{rest if seconds < 10 * size else ''}"
    return f"{seconds} s"


def _rest(seconds: int, above: int) -> str:
    smaller = {86_400: (3600, "h"), 3600: (60, "min"), 60: (1, "s")}[above]
    return f" {seconds // smaller[0]} {smaller[1]}" if seconds >= smaller[0] else ""
