"""Plays one seed: the story with its faults, then the healing, then the reckoning."""

import logging
import random
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from django.conf import settings
from django.db import connections

from audit import replay
from integrations import reconcile, remapping, tasks
from integrations.models import Connection, FieldMapping
from tests.flows.world import World
from tests.simulation import outcome
from tests.simulation.faults import Faults, down
from tests.simulation.ground import NO_FAULTS, Ground, use_pages
from tests.simulation.stage import START, Stage, Violation, Work
from tests.simulation.story import CHANGES, DRAWN, OBJECTS, STEPS, Story
from tests.simulation.watch import Watch
from tests.simulation.wire import SECOND_PAGE, Fault, Trip, Wire
from tests.simulation.world import SETUP, Template, copied

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
MIDNIGHT = 12 * HOUR + 6 * MINUTE  # of the business, after the story's beginning
NIGHTS = 4
RECONCILES = 2  # a record whose job is under way is left to that job, and looked at a day later
MEDDLED = 8  # changes in Wave for each that people make at the destinations meanwhile
EVENING = 4  # and so many when all is at rest: nothing but the reconcile can find those
LEAST_TIME = 3 * MINUTE  # of the faults, however soon all has changed: without deliveries nothing happens before a poll
SURE_FAULTS = 3  # kinds of faults that each story meets without drawing them
SOON = 3  # requests that a fault which is sure to come could meet and does not, at the most
SHIFT = "a shifted page"
# What is told of when it never happened, beside changes in Wave and faults on the way to a vendor.
HAPPENINGS = (
    SECOND_PAGE,
    SHIFT,
    "a process ends",
    "a process stands still",
    "an outage",
    "the power goes",
    "a reconcile",
    "a changed mapping",
)
TASKS = (("sweep", tasks.sweep), ("beat", tasks.beat), ("refresh", tasks.refresh), ("poll", tasks.poll))
MAY_DIE = ("forbidden", "invalid", "gave_up", "crashed", "workflow", "lost", "refused", "name_taken", "email_taken", "ambiguous")


@dataclass(frozen=True, slots=True)
class Traits:
    """What sort of seed this is: probabilities per call, point, statement; durations in seconds."""

    fault: float
    death: float
    stall: float
    refusal: float
    tells: float
    acknowledge: str
    limited: bool
    skew: dict[str, float]
    index_lag: float
    search_lag: float
    longest_wait: int
    between: float  # seconds between two changes, on average
    outages: int
    nights: int  # how often the machine is off for hours or days
    rotations: int
    page: int = 100  # lines that a page of Wave's lists has
    shifts: float = 0.0  # how often something changes in Wave between two pages
    reconciled: bool = False  # people meddle at the destinations, and a reconcile finds what nothing tells of
    mortal: str = ""  # where processes die, or a part of it, as in "poll: after commit"; "" for anywhere
    met: str = ""  # what meets which fault, or a part of it, as in "jira write: a time-out"; "" for all
    objects: float = OBJECTS  # of so many changes
    sure: int = 0  # which change and which faults are sure to come, by their numbers
    remapped: bool = False  # a person changes what is mapped to what, and lets the records run again

    @classmethod
    def drawn(cls, seed: int) -> "Traits":
        """Return the traits of a seed; the first few are tame, so that a failure there is easy to read."""
        draw = random.Random(f"traits {seed}")
        wild = draw.choice((0.0, 0.3, 1.0, 1.0, 2.0))
        return cls(
            fault=0.05 * wild,
            death=0.0008 * wild,
            stall=0.003 * wild,
            refusal=0.001 * wild,
            tells=draw.choice((0.0, 0.5, 0.8, 1.0)),
            acknowledge=draw.choice(("processed", "stored")),
            limited=draw.random() < 0.5,
            skew={vendor: draw.uniform(-200, 200) if wild else 0.0 for vendor in ("wave", "zendesk", "jira")},
            index_lag=draw.choice((0.0, 5.0, 60.0)),
            search_lag=draw.choice((0.0, 5.0, 60.0)),
            longest_wait=draw.choice((30, 300, 300, 86_400)),
            between=draw.choice((5.0, 20.0, 40.0)),
            outages=draw.choice((0, 1, 3)) if wild else 0,
            nights=draw.choice((0, 0, 1)) if wild else 0,
            rotations=draw.choice((0, 0, 1)) if wild else 0,
            reconciled=draw.random() < 0.25,
            page=draw.choice((100, 3)),
            shifts=draw.choice((0.0, 0.1)),
            sure=seed,
            remapped=draw.random() < 0.25,  # drawn last, as all that is added: what was there stays as it is
        )


@dataclass
class Play:
    """One seed on its way."""

    ground: Ground
    world: World
    stage: Stage
    story: Story
    wire: Wire
    watch: Watch
    traits: Traits
    rows: sqlite3.Connection
    changes: int = CHANGES
    healed: bool = False
    whole_since: datetime = START  # since when all accounts are connected and no fault happens
    down: dict[str, float] = field(default_factory=dict)  # vendor -> until when

    # --- What the ground asks

    def arm(self) -> None:
        """Let faults happen."""
        chance, traits = self.stage.random, self.traits
        faults = Faults(self.stage, self.world.wave, self.world.zendesk, self.world.jira, longest_wait=traits.longest_wait, met=traits.met)
        faults.limited = self.watch.limited_by
        expected = (*(step.name for step in STEPS), *(kind.name for kind in faults.kinds), *HAPPENINGS)
        self.stage.happened.update(dict.fromkeys(expected, 0))
        for number in range(SURE_FAULTS) if traits.fault else ():
            kind = faults.kinds[(traits.sure + number * len(faults.kinds) // SURE_FAULTS) % len(faults.kinds)]
            faults.sure[kind.name] = chance.randrange(SOON)

        def fault(trip: Trip) -> tuple[str, Fault] | None:
            if self.down.get(trip.system, 0) > self.stage.seconds:
                return "an outage", down(self.stage)
            # The first comes surely: a short story turns few pages.
            if trip.turns_a_page and traits.shifts and (not self.stage.happened[SHIFT] or chance.random() < traits.shifts):
                self.stage.happened[SHIFT] += 1
                self.story.change()
            return faults.surely(trip) or (faults.draw(trip) if chance.random() < traits.fault else None)

        self.wire.fault = fault
        self.ground.dies = lambda point: chance.random() < self._danger(point)
        self.ground.refuses = lambda sql: chance.random() < traits.refusal
        self.ground.stalls = self._stall

    def _danger(self, point: str) -> float:
        """Return how likely the running process dies at a point; polls are few and jobs are many: as many of both shall."""
        work = self.stage.running.work
        name = work.name if work else ""
        if self.traits.mortal not in f"{name}: {point}":
            return 0.0
        return self.traits.death * (10 if name == "poll" else 1)

    def _stall(self, what: str) -> float:
        # Not between the last look at the clock and the sending: no client of these vendors can close that gap.
        if self.stage.random.random() >= self.traits.stall:
            return 0.0
        about_to_send = "exchange" in what or "slot" in what
        return self.stage.random.uniform(1, 15 if about_to_send else 400)

    def disarm(self) -> None:
        """Let faults stop."""
        self.wire.fault = lambda trip: None
        self.ground.dies, self.ground.refuses, self.ground.stalls = NO_FAULTS, NO_FAULTS, lambda point: 0.0
        self.down.clear()
        self.world.jira.index_lag = self.world.zendesk.search_lag = 0.0

    def woken(self, name: str, ids: Sequence[str]) -> None:
        """Turn a wake-up into a worker's turn: it may be lost or doubled."""
        chance = self.stage.random
        run = partial(tasks.sync, ids) if name == settings.SYNC_TASK else getattr(tasks, name.rpartition(".")[2])
        times = chance.choices((1, 0, 2), (90, 5, 5))[0] if not self.healed else 1
        for _ in range(times):
            self.stage.after(chance.uniform(0.01, 0.5), lambda: self._worker(name.rpartition(".")[2], run))

    def _worker(self, name: str, run: Callable[[], object]) -> None:
        if not self.story.closed:
            self.stage.give("worker", Work(name, run))

    # --- The schedule

    def tick(self) -> None:
        """Start what runs each minute."""
        for name, task in (*TASKS, *([("reconcile", tasks.reconcile)] if self.traits.reconciled else [])):
            if self.stage.waiting("worker") < 8:
                self._worker(name, task)
        self.stage.after(MINUTE, self.tick) if not self.healed else None

    def look_after(self) -> None:
        """Let a person connect again what needs it, now and then."""
        self.stage.give("person", Work("a person looks", self._reconnect, safe=True))
        self.stage.after(self.stage.random.uniform(20 * MINUTE, 90 * MINUTE), self.look_after) if not self.healed else None

    def _reconnect(self) -> None:
        if Connection.objects.filter(status=Connection.Status.NEEDS_RECONNECT).exists():
            self.stage.note("a person connects again")
            self.world.reconnect(SETUP)
            self.whole_since = self.stage.now
            self.watch.learn(self.world.tokens.values())

    def _replay(self) -> None:
        dead = list(replay.unsettled())
        odd = [f"{job.kind} {job.error_code}" for job in dead if job.error_code not in MAY_DIE]
        if odd:
            self.stage.violate(f"dead letters that nothing explains: {odd}")
        if dead:
            self.stage.note(f"a person replays {', '.join(sorted(f'{job.system} {job.key} {job.error_code}' for job in dead))}")
            gone = [job for job in dead if job.error_code == "lost"]
            replay.replay([job for job in dead if job not in gone])
            replay.replay(gone, force=True)  # makes the issue anew that somebody has deleted

    def rotate(self) -> None:
        """Let somebody else use the refresh token of a vendor."""
        vendor = self.stage.random.choice(("wave", "zendesk", "jira"))
        self.stage.note(f"the token of {vendor} is rotated elsewhere")
        if vendor == "wave":
            for grant in list(self.world.wave.grants.grants):
                self.world.wave.revoke(grant.access_token)
        elif vendor == "zendesk":
            self.world.zendesk.tokens.grants.clear()
        else:
            self.world.jira.grants.revoke()

    def break_down(self) -> None:
        """Let a vendor be down for a while."""
        vendor = self.stage.random.choice(("wave", "zendesk", "jira"))
        self.down[vendor] = self.stage.seconds + self.stage.random.uniform(MINUTE, 40 * MINUTE)
        self.stage.note(f"{vendor} breaks down")

    def switch_off(self) -> None:
        """Cut our machine's power for hours or days."""
        self.stage.note("the power goes")
        self.stage.happened["the power goes"] += 1
        self.story.closed = True
        self.stage.kill_all(("web", "worker"))
        self.stage.after(self.stage.random.choice((HOUR, 10 * HOUR, 3.5 * DAY)), self.switch_on)

    def switch_on(self) -> None:
        """Give the power back."""
        self.stage.note("the power is back")
        self.story.closed = False

    def ask_for_a_reconcile(self) -> None:
        """Let a person start a reconcile in the midst of it all."""
        source = Connection.objects.get(system="wave")
        self.stage.give("person", Work("a person asks for a reconcile", lambda: reconcile.begin(source, started_by="admin"), safe=True))

    def change_a_mapping(self) -> None:
        """Let a person say what else the invoices' records are to show, and let those that are there run again."""
        self.stage.give("person", Work("a person changes a mapping", self._change_a_mapping, safe=True))

    def _change_a_mapping(self) -> None:
        row = FieldMapping.objects.select_related("route__source", "route__destination").get(
            route__destination__system="zendesk", kind="invoice", target="po_number"
        )
        row.template = outcome.REMAPPED
        row.full_clean()
        row.save()
        self.story.remapped = True
        self.stage.happened["a changed mapping"] += 1
        remapping.run_again(row.route, ("invoice",))

    # --- The acts

    def act(self) -> None:
        """Play all: changes under faults, healing, and the comparison of what stands with what should."""
        self.story.settle_in()
        self.stage.open("web", 2)
        self.stage.open("worker", 3)
        self.stage.open("person", 1)
        self._prepare()
        self.arm()
        self.tick()
        self.look_after()
        end = 0.0
        for _ in range(self.changes):
            end += self.stage.random.expovariate(1 / self.traits.between)
            self.stage.at(end, self.story.change)
        for count, what in (
            (self.traits.outages, self.break_down),
            (self.traits.nights, self.switch_off),
            (self.traits.rotations, self.rotate),
        ):
            for _ in range(count):
                self.stage.at(self.stage.random.uniform(0.1, 0.9) * end, what)
        if self.traits.reconciled:
            for _ in range(1 + self.changes // MEDDLED):
                self.stage.at(self.stage.random.uniform(0.3, 1) * end, self.story.meddle)
            self.stage.at(self.stage.random.uniform(0.3, 0.8) * end, self.ask_for_a_reconcile)
        if self.traits.remapped:
            self.stage.at(self.stage.random.uniform(0.3, 0.9) * end, self.change_a_mapping)
        self.stage.run(max(end, LEAST_TIME) + MINUTE)
        self._heal()
        self.stage.happened["a reconcile"] += self._reconciles()
        self.watch.reckon()
        outcome.compare(self.stage, self.world, self.story, self.rows)

    def _prepare(self) -> None:
        self.world.jira.index_lag, self.world.zendesk.search_lag = self.traits.index_lag, self.traits.search_lag

    def _heal(self) -> None:
        """Let faults stop and the product come to rest, in bounded time."""
        self.stage.note("the faults stop")
        self.disarm()
        self.switch_on()
        self.story.send_all()
        self.healed, self.whole_since = True, self.stage.now
        self._come_to_rest()
        if self.traits.reconciled:
            self._wait_for_the_reconcile()

    def _wait_for_the_reconcile(self) -> None:
        """Let nights pass until reconciles have looked at all there is: the daily one begins soon after midnight."""
        for _ in range(EVENING):
            self.story.meddle()
        for _ in range(NIGHTS):
            self.stage.run((self.stage.seconds - MIDNIGHT) // DAY * DAY + DAY + MIDNIGHT)
            self._come_to_rest()
            if self._reconciles() >= RECONCILES:
                return
        self.stage.violate(f"{self._reconciles()} reconciles have come to their end in {NIGHTS} nights")

    def _reconciles(self) -> int:
        query = "SELECT count(*) FROM integrations_sweep WHERE state = 'done' AND left_out = '{}' AND created_at > ?"
        return int(self.rows.execute(query, (self.whole_since.strftime("%Y-%m-%d %H:%M:%S"),)).fetchone()[0])

    def _come_to_rest(self) -> None:
        bound = self.stage.seconds + self.traits.longest_wait + 3 * HOUR
        quiet = 0
        while quiet < 2:
            if self.stage.seconds > bound:
                self.stage.violate(f"no rest within {self.traits.longest_wait + 3 * HOUR:.0f} s: {self.unrest()}")
            self.tick()
            self.stage.give("person", Work("a person looks", self._reconnect, safe=True))
            self.stage.run(self.stage.seconds + self._next_due())
            if not self._under_way():
                self.stage.give("person", Work("a person replays", self._replay, safe=True))
                self.stage.run(self.stage.seconds + 5)
            quiet = 0 if self.unrest() or not self._polled() else quiet + 1

    def _next_due(self) -> float:
        """Return the seconds until something is due, at least a minute: no need for each tick on the way."""
        query = (
            "SELECT min(due) FROM (SELECT due_at due FROM audit_syncjob WHERE state = 'pending' "
            "UNION SELECT lease_until FROM audit_syncjob WHERE state = 'running')"
        )
        found = self.rows.execute(query).fetchone()[0]
        due = datetime.fromisoformat(found).replace(tzinfo=UTC) if found else self.stage.now
        holds = [
            datetime.fromisoformat(row[0]).replace(tzinfo=UTC)
            for row in self.rows.execute("SELECT until FROM audit_hold WHERE until IS NOT NULL")
        ]
        later = [until for until in holds if until > self.stage.now]
        due = due if due > self.stage.now or not later else min(later)
        return max(MINUTE, (due - self.stage.now).total_seconds() + 2)

    def _polled(self) -> bool:
        """Whether both listings were read to their end since all is whole."""
        since = self.whole_since.strftime("%Y-%m-%d %H:%M:%S")
        polled = self.rows.execute("SELECT count(*) FROM integrations_watermark WHERE polled_at > ?", (since,)).fetchone()[0]
        return int(polled) == 2  # customers and invoices

    def _under_way(self) -> bool:
        query = (
            "SELECT 1 FROM audit_syncjob WHERE state IN ('pending', 'running', 'blocked') "
            "UNION SELECT 1 FROM integrations_sweep WHERE state = 'running'"
        )
        return bool(self.rows.execute(query).fetchone())

    def unrest(self) -> str:
        """Return what is still under way."""
        counts = self.rows.execute(
            "SELECT state, count(*) FROM audit_syncjob WHERE state IN ('pending', 'running', 'blocked') "
            "OR (state = 'dead' AND resolved_by_id IS NULL) GROUP BY state"
        ).fetchall()
        counts += self.rows.execute("SELECT 'reconcile', count(*) FROM integrations_sweep WHERE state = 'running' GROUP BY 1").fetchall()
        waiting = sum(mail.told and not mail.taken for mail in self.story.mails)
        standing = sum(actor.work is not None for actor in self.stage.actors)  # one that stands still has not had its say
        more = [f"{number} {what}" for number, what in ((waiting, "deliveries"), (standing, "processes at work")) if number]
        return ", ".join([*(f"{number} {state}" for state, number in counts), *more])


@dataclass(frozen=True, slots=True)
class Result:
    """How a seed ended."""

    seed: int
    steps: int
    digest: str
    seconds: float  # of CPU
    virtual: float
    failure: str = ""
    latest: tuple[str, ...] = ()
    happened: Mapping[str, int] = field(default_factory=dict)


def play(ground: Ground, made: Template, seed: int, *, traits: Traits | None = None, changes: int = CHANGES) -> Result:
    """Play a seed; a broken promise is told in the result, a defect of the simulation is raised."""
    begun = time.process_time()
    ground.stage = None
    ground.reseed(seed)
    world = copied(made, ground, name=f"seed-{seed}")
    stage = Stage(seed, move_clock=ground.clock.move_to, stand=ground.stand, bury=ground.bury)
    ground.clock.move_to(stage.now)
    wire = Wire(ground, world.stand_ins)
    chosen = traits or Traits.drawn(seed)
    rows = sqlite3.connect(connections.settings["default"]["NAME"], check_same_thread=False, isolation_level=None)
    story = Story(stage, world, chosen.tells, changes, chosen.objects, chosen.reconciled, DRAWN[chosen.sure % len(DRAWN)])
    watch = Watch(ground, stage, world, story, rows)
    this = Play(ground, world, stage, story, wire, watch, chosen, rows, changes)
    failure = ""
    try:
        story.settle_in()
        stand(this, made)
        this.act()
    except Violation as violation:
        failure = str(violation)
    except Exception as error:
        if stage.failure is not error:
            raise
        failure = f"{type(error).__name__}: {error}"
    finally:
        stage.close()
        ground.stage = None
        rows.close()
    seconds, digest = time.process_time() - begun, stage.digest.hexdigest()
    return Result(seed, stage.steps, digest, seconds, stage.seconds, failure, tuple(stage.latest), stage.happened)


def stand(this: Play, made: Template) -> None:
    """Put production code on this play's ground."""
    ground, traits, wire, watch = this.ground, this.traits, this.wire, this.watch
    for vendor, clock in made.clocks.items():
        clock.apart = traits.skew[vendor]
    use_pages(traits.page)
    settings.WEBHOOK_ACK = traits.acknowledge
    settings.WAVE_MAX_PER_MINUTE, settings.WAVE_MAX_CONCURRENT = (60, 1) if traits.limited else (0, 0)
    ground.stage, ground.send, ground.woken = this.stage, wire.send, this.woken
    watch.limited = traits.limited
    wire.latency = lambda: this.stage.random.choice((0.02, 0.05, 0.1, 0.3, 1.0))
    wire.sent, wire.arrived, wire.ended = watch.sent, watch.arrived, watch.ended
    this.story.answered = watch.answered
    logging.getLogger().handlers[:] = [watch.sink]
    ground.settled, ground.refused, ground.is_over = watch.stored, watch.unstored, watch.is_over
    watch.learn(this.world.tokens.values())
