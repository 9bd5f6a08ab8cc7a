"""The promises, looked at while production code runs: at each step, call and answer, and at the end."""

import json
import logging
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.http import HttpResponseBase

from integrations.sandbox.server import Response
from tests.flows.world import World, key_of
from tests.simulation.ground import Ground
from tests.simulation.stage import START, Stage
from tests.simulation.story import Mail, Story
from tests.simulation.targets import JIRA_KEYS, Target, target_of
from tests.simulation.wire import Trip

SECRET_LEAST = 12  # characters
ROUNDING = 2.0  # seconds: a hold ends as its 429 said, within what an answer takes to arrive
SINKS = (
    ("audit_attempt", "message || ' ' || words || ' ' || error_code || ' ' || notes"),
    ("audit_exchange", "path || ' ' || coalesce(request_id, '')"),
    ("audit_syncjob", "reason || ' ' || error_code || ' ' || notes || ' ' || title || ' ' || party"),
    ("audit_hold", "scope || ' ' || reason"),
    ("integrations_connection", "settings || ' ' || status_reason || ' ' || account || ' ' || checks"),
    ("integrations_watermark", "problem || ' ' || asked"),
    ("integrations_delivery", "cast(body AS text) || ' ' || secret || ' ' || job_ids"),
    ("integrations_binding", "hashes || ' ' || facts || ' ' || title"),
    ("integrations_change", "text || ' ' || state || ' ' || method"),
    ("integrations_sweep", "problem || ' ' || left_out || ' ' || options || ' ' || figures"),
    ("integrations_finding", "title || ' ' || fields"),
    ("integrations_line", "number || ' ' || held"),
    ("integrations_disagreement", "title || ' ' || held || ' ' || invoices"),
    ("integrations_fieldmapping", "template || ' ' || problem"),
    ("integrations_remotewebhook", "url || ' ' || query || ' ' || events || ' ' || problem"),
    ("integrations_budget", "bucket"),
    ("integrations_remoteshape", "value"),
    ("integrations_credential", "cast(secrets AS text)"),
)


class Sink(logging.Handler):
    """Keeps what is logged, before anything is taken out of it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, with the exception's text where there is one."""
        self.lines.append(f"{record.getMessage()} {record.exc_info[1] if record.exc_info else ''}")


@dataclass(slots=True)
class Limit:
    """A vendor's word not to come back before a time; it counts for what begins after its hearer, in the same life, has stored it."""

    target: str  # what of the vendor it covers
    until: float
    hearer: tuple[str, int]
    stored_at: float | None = None


@dataclass
class Life:
    """What one process knows in its present life."""

    read: dict[str, tuple[int, int]] = field(default_factory=dict)  # key -> (own, summed) version that its last read showed
    read_at: float = 0.0


@dataclass
class Watch:
    """Knows what was read, written and promised so far."""

    ground: Ground
    stage: Stage
    world: World
    story: Story
    rows: sqlite3.Connection
    limited: bool = False  # one call at a time is allowed at Wave
    sink: Sink = field(default_factory=Sink)
    canaries: set[str] = field(default_factory=set)
    written: dict[str, tuple[int, int]] = field(default_factory=dict)
    under_way: dict[str, str] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    limits: list[Limit] = field(default_factory=list)
    lives: dict[tuple[str, int], Life] = field(default_factory=dict)

    def learn(self, secrets: Iterable[str]) -> None:
        """Take more secrets for canaries."""
        self.canaries |= {secret for secret in secrets if len(secret) >= SECRET_LEAST}

    def _life(self) -> Life:
        me = self.stage.running
        return self.lives.setdefault((me.name, me.life), Life())

    # --- On the way to a vendor

    def sent(self, trip: Trip) -> None:
        """Look at a request that goes out: its exchange is entered, nobody else writes the same object, no limit is broken."""
        self.calls[trip.system] += not trip.token
        if trip.system == "wave" and not trip.token and self.limited and self.calls["wave"] > 1:
            self.stage.violate("more calls at the same time than Wave takes from us")
        target = target_of(trip, self.world)
        self._obeyed(trip, target)
        if target is None:
            return
        self._entered(trip)
        other = self.under_way.get(target.object)
        if other is not None:
            self.stage.violate(f"{self.stage.running.name} and {other} write {target.object} at the same time")
        self.under_way[target.object] = self.stage.running.name

    def ended(self, trip: Trip) -> None:
        """Note that a request is over, for whoever sent it."""
        self.calls[trip.system] -= not trip.token
        target = target_of(trip, self.world)
        for name in [target.object] if target else []:
            self.under_way.pop(name, None)
        for name in [name for name, who in self.under_way.items() if who == self.stage.running.name]:
            del self.under_way[name]  # a create was sent without an id, and has one now

    def _entered(self, trip: Trip) -> None:
        """Look for the exchange of a write that goes out; what it writes was read after its job was claimed."""
        found = self.rows.execute(
            "SELECT e.path, a.opened_at FROM audit_exchange e JOIN audit_attempt a ON a.id = e.attempt_id "
            "WHERE e.method = ? AND e.status IS NULL AND e.milliseconds IS NULL ORDER BY e.id DESC LIMIT 40",
            (trip.request.method,),
        )
        path = trip.request.path.removesuffix(".json")
        opened = [row[1] for row in found if path.endswith(row[0])]
        if not opened:
            self.stage.violate(f"no exchange was entered before {trip.told}")
        # Another process may have entered a request for the same path just now, so any that fits will do.
        claimed = min(map(_seconds, opened))
        if self._life().read_at < claimed - 0.001:
            self.stage.violate(f"{trip.told} writes what was read before the job was claimed")

    def _obeyed(self, trip: Trip, target: Target | None) -> None:
        covered = {trip.system, *([target.object] if target else [])}
        began = self._life().read_at
        for limit in self.limits:
            binding = limit.stored_at is not None and limit.stored_at < began and self.stage.seconds < limit.until
            if binding and limit.target in covered and not trip.token:
                self.stage.violate(f"{trip.told} {limit.until - self.stage.seconds:.1f} s before {limit.target} may be called again")

    # --- What the vendor did

    def arrived(self, trip: Trip, response: Response) -> None:
        """Look at what a vendor carried out."""
        if trip.token:
            self._learn_tokens(trip, response)
        elif trip.system == "wave":
            self._note_read(trip)
        elif trip.writes and response.status < 300:
            self._note_write(trip)

    def _learn_tokens(self, trip: Trip, response: Response) -> None:
        body = response.body if isinstance(response.body, dict) else {}
        self.learn(str(body[name]) for name in ("access_token", "refresh_token") if body.get(name))

    def _note_read(self, trip: Trip) -> None:
        variables = json.loads(trip.request.body).get("variables") or {}
        life, wave = self._life(), self.world.wave
        life.read_at = self.stage.seconds
        # One record by its name, or many by aliases i0, c0, i1 ...
        asked = [str(node) for name, node in variables.items() if re.fullmatch(r"invoice|customer|[ic]\d+", name) and node]
        for node in asked:
            for each in (node, *([wave.invoices[node].customer] if node in wave.invoices else [])):
                key = key_of(each)
                life.read[key] = (self.story.own[key], self.story.summed[key])

    def _note_write(self, trip: Trip) -> None:
        target = target_of(trip, self.world)
        if target is None or not target.key:
            return
        key = self.story.payments.get(target.key, target.key)
        known = self._life().read.get(key)
        if known is None:
            self.stage.violate(f"{trip.told} writes {target.object}, which this process never read")
            return
        before = self.written.get(target.object, (0, 0))
        older = known[0] < before[0] or (not target.partial and known[1] < before[1])
        if older:
            self.stage.violate(f"{trip.told} writes version {known} of {target.object} over version {before}")
        self.written[target.object] = (max(known[0], before[0]), before[1] if target.partial else max(known[1], before[1]))
        self._one_each(trip.system, target)

    def _one_each(self, system: str, target: Target) -> None:
        """Look for a second object with the same key."""
        if system == "jira":
            found = [issue.id for issue in self.world.jira.issues.values() if _planted(issue.properties) == target.key]
            logs = Counter(str(log.properties) for issue in self.world.jira.issues.values() for log in issue.worklogs)
            twins = len(found) > 1 or any(number > 1 for number in logs.values())
        else:
            twins = any(number > 1 for number in Counter(_keys(self.world)).values())
        if twins:
            self.stage.violate(f"two remote objects carry the key of {target.object}")

    def limited_by(self, trip: Trip, *, narrow: bool, seconds: float) -> None:
        """Take note of a 429 that names a time."""
        target = target_of(trip, self.world)
        if narrow and target is None:
            return  # the limit of an object that is none of ours, as a membership
        covers = target.object if narrow and target else trip.system
        self.limits.append(Limit(covers, self.stage.seconds + seconds, (self.stage.running.name, self.stage.running.life)))

    def stored(self) -> None:
        """Let the limits that this process has heard of count from now on: it has settled what met them."""
        me = (self.stage.running.name, self.stage.running.life)
        for limit in self.limits:
            if limit.hearer == me and limit.stored_at is None:
                limit.stored_at = self.stage.seconds

    def unstored(self) -> None:
        """Forget the limits that this process has heard of and holds nothing for: the database has refused it, and its run ends."""
        me = (self.stage.running.name, self.stage.running.life)
        ends = [_seconds(at) for (at,) in self.rows.execute("SELECT until FROM audit_hold WHERE until IS NOT NULL")]
        kept = [limit for limit in self.limits if any(abs(end - limit.until) < ROUNDING for end in ends)]
        self.limits = [limit for limit in self.limits if limit.hearer != me or limit.stored_at is not None or limit in kept]

    def is_over(self, attempt: int) -> bool:
        """Whether an attempt was closed already, as its worker was taken for dead."""
        return bool(self.rows.execute("SELECT closed_at FROM audit_attempt WHERE id = ?", (attempt,)).fetchone() != (None,))

    # --- Deliveries

    def answered(self, mail: Mail, response: HttpResponseBase) -> None:
        """Look at our answer to a delivery: a 200 is a promise."""
        if response.status_code == 500 and not self.stage.running.troubled:
            self.stage.violate(f"answered 500 to {mail.name}")
        if response.status_code not in (200, 401, 500, 503):
            self.stage.violate(f"answered {response.status_code} to {mail.name}")
        if response.status_code == 200 and not self._delivery(mail):
            self.stage.violate(f"answered 200 to {mail.name} and stored nothing")

    def _delivery(self, mail: Mail) -> Any:
        return self.rows.execute("SELECT decision, job_ids FROM integrations_delivery WHERE body = ?", (mail.body,)).fetchone()

    # --- At the end

    def reckon(self) -> None:
        """Look at what must hold once all has come to rest."""
        self._deliveries_accounted_for()
        self._attempts_complete()
        self._no_secret_told()

    def _deliveries_accounted_for(self) -> None:
        for mail in self.story.mails:
            found = self._delivery(mail)
            if mail.taken and found is None:
                self.stage.violate(f"{mail.name} was taken and is not stored")
            for pk in json.loads(found[1]) if found else []:
                state = self.rows.execute("SELECT state FROM audit_syncjob WHERE id = ?", (pk.replace("-", ""),)).fetchone()
                if state is None or state[0] not in ("succeeded", "superseded", "dead"):
                    self.stage.violate(f"{mail.name} led to a job that is {state and state[0]}")

    def _attempts_complete(self) -> None:
        counts = {
            "attempts without an end": "SELECT count(*) FROM audit_attempt WHERE closed_at IS NULL",
            "jobs with runs but no attempts": "SELECT count(*) FROM audit_syncjob j WHERE attempt_number != "
            "(SELECT count(*) FROM audit_attempt a WHERE a.job_id = j.id)",
            "holds": "SELECT count(*) FROM audit_hold WHERE until IS NULL",
        }
        for what, query in counts.items():
            number = self.rows.execute(query).fetchone()[0]
            if number:
                self.stage.violate(f"at rest there are {what}: {number}")
        unsure = "SELECT state, kind, key FROM integrations_binding WHERE remote_id = '' OR state IN ('creating', 'in_doubt')"
        for state, kind, key in self.rows.execute(unsure):
            self.stage.violate(f"at rest the binding of {kind} {key} is {state}; deleted in Wave: {key in map(key_of, self.story.deleted)}")

    def _no_secret_told(self) -> None:
        told = {"the log": "\n".join(self.sink.lines)}
        for table, columns in SINKS:
            told[table] = "\n".join(str(row[0]) for row in self.rows.execute(f"SELECT {columns} FROM {table}"))  # noqa: S608 - ours
        own = {self.world.wave.client_secret, self.world.zendesk.client_secret, self.world.jira.client_secret, self.world.jira.api_token}
        for place, text in told.items():
            if any(canary in text for canary in self.canaries | own):
                self.stage.violate(f"a secret stands in {place}")


def _seconds(at: str) -> float:
    """Return a time of the database in seconds since the start."""
    return (datetime.fromisoformat(at).replace(tzinfo=UTC) - START).total_seconds()


def _planted(properties: dict[str, Any]) -> str:
    return next((str(properties[name].get("key")) for name in JIRA_KEYS if name in properties), "")


def _keys(world: World) -> list[str]:
    rows: list[Any] = [*world.zendesk.organizations.rows.values(), *world.zendesk.users.rows.values()]
    kept = [f"{type(row).__name__} {row.external_id}" for row in rows if row.external_id]
    for each in world.zendesk.objects.rows.values():
        kept += [f"{each.key} {record.external_id}" for record in each.records.values() if record.external_id]
    return kept
