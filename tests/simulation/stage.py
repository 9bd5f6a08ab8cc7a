"""Virtual time and the baton: threads that take turns, exactly one at a time, in an order that a seed decides."""

import hashlib
import heapq
import itertools
import random
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db import DatabaseError

START = datetime(2026, 5, 4, 16, 0, tzinfo=UTC)
KEPT = 2000  # steps that a failure shows


class ProcessEnd(BaseException):
    """The process is gone."""


class Over(BaseException):
    """The play is over."""


class Violation(BaseException):
    """A promise was broken; the message says which."""


@dataclass(frozen=True, slots=True)
class Work:
    """Something to do for a process of a pool; `lost` is called when the process dies meanwhile."""

    name: str
    run: Callable[[], object]
    lost: Callable[[], object] = lambda: None
    safe: bool = False  # no fault meets it: a person's own action


@dataclass(eq=False)
class Actor:
    """One process of the product, as a thread that runs only while it holds the baton."""

    name: str
    pool: str
    baton: threading.Lock = field(default_factory=threading.Lock)
    thread: threading.Thread | None = None
    work: Work | None = None
    doomed: bool = False  # dies when it gets the baton again
    dead: bool = False  # no statement and no call of this life goes out any more
    troubled: bool = False  # its database has refused a statement during this work
    life: int = 0
    touched: dict[str, None] = field(default_factory=dict)  # tables that the present transaction has written, in their order

    def __post_init__(self) -> None:
        self.baton.acquire()


class Stage:
    """All that happens, in virtual seconds since START."""

    def __init__(
        self, seed: int, *, move_clock: Callable[[datetime], object], stand: Callable[[Actor], object], bury: Callable[[Actor], object]
    ) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.seconds = 0.0
        self.steps = 0
        self.latest: deque[str] = deque(maxlen=KEPT)
        self.digest = hashlib.sha256()
        self.happened: Counter[str] = Counter()  # what of that which makes a story hard
        self.failure: BaseException | None = None
        self.over = False
        self.actors: list[Actor] = []
        self.director = Actor("director", "")
        self.running = self.director
        self._move_clock = move_clock
        self._stand, self._bury = stand, bury
        self._events: list[tuple[float, float, int, Actor | Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._idle: dict[str, list[Actor]] = {}
        self._queue: dict[str, deque[Work]] = {}

    @property
    def now(self) -> datetime:
        """The virtual time."""
        return START + timedelta(seconds=self.seconds)

    # --- What happened

    def note(self, text: str) -> None:
        """Enter a step into the log; its digest says whether two runs took the same steps."""
        line = f"{self.steps:6} {self.seconds:11.3f} {self.running.name:9} {text}"
        self.steps += 1
        self.latest.append(line)
        self.digest.update(line.encode())

    def violate(self, message: str) -> None:
        """End the play: a promise was broken."""
        self.failure = self.failure or Violation(message)
        raise self.failure

    # --- Time

    def at(self, seconds: float, what: Actor | Callable[[], object]) -> None:
        """Let something happen, or an actor go on, at a time; what falls together is ordered by the seed."""
        heapq.heappush(self._events, (max(seconds, self.seconds), self.random.random(), next(self._numbers), what))

    def after(self, seconds: float, what: Actor | Callable[[], object]) -> None:
        """Let something happen so many seconds from now."""
        self.at(self.seconds + seconds, what)

    def pause(self, seconds: float) -> None:
        """Let others go on for so long; the running actor may find itself dead then."""
        me = self.running
        self.after(seconds, me)
        self._pass(me)

    def run(self, until: float) -> None:
        """Let everything happen until a time, from the director's thread; raise what went wrong."""
        self.at(until, self.director)
        self._pass(self.director)
        if self.failure is not None:
            raise self.failure

    def _pass(self, me: Actor) -> None:
        if self.over:
            raise Over
        following = self._next()
        if following is not me:
            self.running = following
            following.baton.release()
            me.baton.acquire()
        self.running = me
        if me is self.director:
            return
        if self.over:
            raise Over
        if me.doomed:
            me.doomed = False
            raise ProcessEnd

    def _next(self) -> Actor:
        """Let time go on to the next actor's turn."""
        while self.failure is None:
            at, _, _, what = heapq.heappop(self._events)
            if at > self.seconds:
                self.seconds = at
                self._move_clock(self.now)
            if isinstance(what, Actor):
                return what
            mine, self.running = self.running, self.director
            try:
                what()
            except BaseException as error:
                self.failure = self.failure or error
            self.running = mine
        return self.director

    # --- Actors

    def open(self, pool: str, count: int) -> None:
        """Start so many processes."""
        self._idle.setdefault(pool, [])
        self._queue.setdefault(pool, deque())
        for _ in range(count):
            actor = Actor(f"{pool}-{len(self.actors)}", pool)
            actor.thread = threading.Thread(target=self._live, args=(actor,), daemon=True)
            self.actors.append(actor)
            actor.thread.start()
            self.at(self.seconds, actor)

    def give(self, pool: str, work: Work) -> None:
        """Give work to an idle process of the pool, or to the first that comes free."""
        self._queue[pool].append(work)
        if self._idle[pool]:
            idle = self._idle[pool]
            self.at(self.seconds, idle.pop(self.random.randrange(len(idle))))

    def waiting(self, pool: str) -> int:
        """Return how much work nobody has taken yet."""
        return len(self._queue[pool])

    def kill_all(self, pools: tuple[str, ...]) -> None:
        """Cut the power: everything under way ends where it is, what was queued in memory is lost."""
        for actor in self.actors:
            if actor.pool in pools and actor.work is not None:
                actor.doomed = True

    def close(self) -> None:
        """End all threads."""
        self.over = True
        for actor in self.actors:
            actor.dead = True
            self.running = actor
            actor.baton.release()
            if actor.thread is not None:
                actor.thread.join(20)

    def _live(self, actor: Actor) -> None:
        actor.baton.acquire()
        try:
            while not self.over:
                if self._queue[actor.pool]:
                    self._do(actor, self._queue[actor.pool].popleft())
                else:
                    self._idle[actor.pool].append(actor)
                    self._pass(actor)
        except Over:
            pass
        except BaseException as error:
            self.failure = self.failure or error
            self._give_up(actor)
        finally:
            self._bury(actor)

    def _give_up(self, actor: Actor) -> None:
        if not self.over:
            self.running = self.director
            self.director.baton.release()
            actor.baton.acquire()

    def _do(self, actor: Actor, work: Work) -> None:
        actor.work, actor.troubled = work, False
        self._stand(actor)
        self.note(f"begins {work.name}")
        try:
            work.run()
        except ProcessEnd:
            self._die(actor, work)
        except DatabaseError as error:
            if not actor.troubled:
                self.failure = error
                raise
            self.note(f"{work.name} met a refusing database")
        actor.work = None

    def _die(self, actor: Actor, work: Work) -> None:
        """Leave nothing of this life but what was committed; another process takes its place a little later."""
        self._bury(actor)
        self.note(f"died in {work.name}")
        self.happened["a process ends"] += 1
        actor.dead, actor.work, actor.life = False, None, actor.life + 1
        work.lost()
        self.pause(self.random.uniform(1, 20))
