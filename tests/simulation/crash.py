"""Crash points: a flow is stopped at each commit and vendor call in turn, and must end as if nothing had happened."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from django.db import connections

from integrations import tasks
from tests.simulation import outcome
from tests.simulation.ground import NO_FAULTS, Ground
from tests.simulation.play import MINUTE, Play, Traits, stand
from tests.simulation.stage import Stage, Violation, Work
from tests.simulation.story import Mail, Story, node_name
from tests.simulation.watch import Watch
from tests.simulation.wire import Wire
from tests.simulation.world import Template, copied

TAME = Traits(
    fault=0.0,
    death=0.0,
    stall=0.0,
    refusal=0.0,
    tells=1.0,
    acknowledge="stored",
    limited=False,
    skew=dict.fromkeys(("wave", "zendesk", "jira"), 0.0),
    index_lag=0.0,
    search_lag=0.0,
    longest_wait=0,
    between=1.0,
    outages=0,
    nights=0,
    rotations=0,
)
REST = 20  # minutes in which everything must have come to rest: leases end after two, look-ups after three more, second looks after five


def _customer(story: Story) -> tuple[str, str]:
    return story._add_customer()


def _invoice(story: Story) -> tuple[str, str]:
    story._add_customer()
    _, node = story._add_invoice()
    story.world.wave.approve(node)
    story.world.wave.send(node)
    return "invoice.sent", node


def _deletion(story: Story) -> tuple[str, str]:
    [node] = story.invoices
    return story._deleted(node)


def _payment(story: Story) -> tuple[str, str]:
    node = story.invoices[0]
    return story._paid(node, story.world.wave.invoices[node].amount_due)


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow: what was there before, what changes then, and whether it is the poll that is stopped, as no delivery tells of it."""

    changed: Callable[[Story], tuple[str, str]]
    before: Callable[[Story], tuple[str, str]] | None = None
    after: Callable[[Story], tuple[str, str]] | None = None  # what changes before the process is up again
    polled: bool = False


FLOWS: Mapping[str, Flow] = {
    "customer": Flow(_customer),
    "invoice": Flow(_invoice),
    "payment": Flow(_payment, before=_invoice),
    "deletion": Flow(_invoice, after=_deletion),
    "poll": Flow(_invoice, polled=True),
}


class Stopped:
    """Counts the points that are passed and stops at one of them."""

    def __init__(self, ground: Ground, stop_at: int, *, within: str) -> None:
        self.ground = ground
        self.stop_at = stop_at
        self.within = within  # the only work that is stopped; "" for any
        self.passed: list[str] = []
        self.lasting: list[bool] = []  # whether a stop there can leave anything else than one at its process' point before
        self._begun: dict[int, Work] = {}

    def __call__(self, point: str) -> bool:
        """Say whether this point is the one."""
        work = self.ground.actor.work if self.ground.actor else None
        if work is None or self.within not in ("", work.name):
            return False
        changed = point.startswith(("after commit", "after write")) and point != "after commit of nothing"
        self.lasting.append(changed or id(work) not in self._begun)
        self._begun[id(work)] = work
        self.passed.append(point)
        return len(self.passed) - 1 == self.stop_at


def points(ground: Ground, made: Template, flow: str) -> list[tuple[int, str]]:
    """Return the points of an undisturbed run that differ: a process that has neither committed nor written since leaves the same."""
    run = _run(ground, made, flow, -1)
    return [(number, name) for number, name in enumerate(run.passed) if run.lasting[number]]


def _run(ground: Ground, made: Template, name: str, point: int) -> Stopped:
    ground.stage = None
    ground.reseed(1)
    world = copied(made, ground, name=f"crash-{name}")
    stage = Stage(1, move_clock=ground.clock.move_to, stand=ground.stand, bury=ground.bury)
    ground.clock.move_to(stage.now)
    wire = Wire(ground, world.stand_ins)
    rows = sqlite3.connect(connections.settings["default"]["NAME"], check_same_thread=False, isolation_level=None)
    story = Story(stage, world)
    this = Play(ground, world, stage, story, wire, Watch(ground, stage, world, story, rows), replace(TAME), rows)
    try:
        story.settle_in()
        stand(this, made)
        stage.open("web", 1)
        stage.open("worker", 2)
        return _play(this, FLOWS[name], point)
    finally:
        ground.dies = NO_FAULTS
        stage.close()
        ground.stage = None
        rows.close()


def _play(this: Play, flow: Flow, point: int) -> Stopped:
    if flow.before is not None:
        _tell(this, *_changed(this, flow.before))
        _rest(this)
    stopped = Stopped(this.ground, point, within="poll" if flow.polled else "")
    this.ground.dies = stopped
    event, node = _changed(this, flow.changed)
    if flow.polled:
        this.whole_since = this.stage.now
        this.stage.give("worker", Work("poll", tasks.poll))
    else:
        _tell(this, event, node)
    this.stage.run(this.stage.seconds + 30)
    if point >= 0 and len(stopped.passed) <= point:
        raise Violation(f"point {point} was never reached")
    this.ground.dies = NO_FAULTS
    if flow.after is not None:
        _tell(this, *_changed(this, flow.after))
    _rest(this, polled=flow.polled)
    this.watch.reckon()
    outcome.compare(this.stage, this.world, this.story, this.rows)
    return stopped


def _changed(this: Play, change: Callable[[Story], tuple[str, str]]) -> tuple[str, str]:
    event, node = change(this.story)
    this.story._count(node)
    return event, node


def _tell(this: Play, event: str, node: str) -> None:
    about = {"customer": node} if node in this.world.wave.customers else {"invoice": node}
    mail = Mail(f"{event} {node_name(node)}", this.world.wave.event(event, **about), told=True)
    this.story.mails.append(mail)
    this.story._send_out(mail, fresh=True)


def _rest(this: Play, *, polled: bool = False) -> None:
    for _ in range(REST):
        this.stage.give("worker", Work("sweep", tasks.sweep))
        this.stage.give("worker", Work("beat", tasks.beat))
        if polled:
            this.stage.give("worker", Work("poll", tasks.poll))
        this.stage.run(this.stage.seconds + MINUTE)
        running = this.rows.execute("SELECT 1 FROM audit_attempt WHERE closed_at IS NULL").fetchone()
        if not running and not this.unrest() and (this._polled() or not polled):
            return
    raise Violation(f"no rest: {this.unrest()}")


def each(ground: Ground, made: Template, flow: str, *, share: int, shares: int) -> Iterator[tuple[int, str, str]]:
    """Yield each point of a flow, or of many shares one, with what went wrong there, "" for nothing."""
    for number, name in points(ground, made, flow)[share::shares]:
        try:
            _run(ground, made, flow, number)
        except Violation as violation:
            yield number, name, str(violation)
        else:
            yield number, name, ""
