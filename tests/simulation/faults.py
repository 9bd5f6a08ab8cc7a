"""What can go wrong on the way to a vendor and back, as `requests` and the vendors tell it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import requests

from integrations.sandbox.jira import Jira
from integrations.sandbox.server import Response
from integrations.sandbox.wave import Wave
from integrations.sandbox.wave_graphql import refusal
from integrations.sandbox.zendesk import Zendesk
from tests.simulation.stage import Stage
from tests.simulation.wire import Fault, Handle, Trip
from tests.straight import payload_of

PAGE = "<html><body>Down for maintenance</body></html>"
READ_TIMEOUT, CONNECT_TIMEOUT = 8.0, 3.0  # seconds, as production has them
MINUTE_LIMIT = b"Number of allowed API requests per minute exceeded"
OBJECT_LIMIT = {"errors": [{"code": "TooManyRequests", "title": "Too many requests to update"}]}


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to fail: how often among the others, what it can meet, and what it does."""

    name: str
    weight: float
    act: Fault
    systems: tuple[str, ...] = ("wave", "zendesk", "jira")
    meets: Callable[[Trip], bool] = lambda trip: True


def _reads_or_writes(trip: Trip) -> bool:
    return not trip.token


def _writes(trip: Trip) -> bool:
    return trip.writes


class Faults:
    """The table of faults over one world."""

    def __init__(self, stage: Stage, wave: Wave, zendesk: Zendesk, jira: Jira, *, longest_wait: int, met: str) -> None:
        self.stage = stage
        self.met = met  # what meets which fault, or a part of it; "" for all
        self.wave, self.zendesk, self.jira = wave, zendesk, jira
        self.longest_wait = longest_wait  # seconds that a Retry-After may name at most
        self.limited: Callable[..., object] = lambda trip, **more: None  # told of each 429 that names a time
        self.kinds = self._kinds()
        self.sure: dict[str, int] = {}  # what comes without being drawn, after so many requests that it could have met

    def _kinds(self) -> Sequence[Kind]:
        return (
            Kind("no connection", 3, self._unreachable),
            Kind("a refused connection", 2, self._refused),
            Kind("a reset before the vendor acts", 2, self._reset_before),
            Kind("a reset after the vendor acted", 4, self._reset_after),
            Kind("a time-out after the vendor acted", 6, self._lost),
            Kind("a cut answer", 3, self._cut),
            Kind("a page instead of an answer", 2, lambda trip, handle: Response(200, PAGE), meets=_reads_or_writes),
            Kind("a page after the vendor acted", 2, self._page_after, meets=_reads_or_writes),
            Kind("500", 2, lambda trip, handle: Response(500, {"error": "oops"}), meets=_reads_or_writes),
            Kind("502 after the vendor acted", 3, self._bad_gateway, meets=_reads_or_writes),
            Kind("503", 3, self._unavailable, meets=_reads_or_writes),
            Kind("429", 4, self._limited, meets=_reads_or_writes),
            Kind("an error inside Wave", 2, self._wave_error, systems=("wave",), meets=_reads_or_writes),
            Kind("an expired token", 4, self._expired, meets=_reads_or_writes),
            Kind(
                "403",
                0.4,
                lambda trip, handle: Response(403, {"error": "Forbidden", "errorMessages": ["no"]}),
                ("zendesk", "jira"),
                _writes,
            ),
            Kind(
                "403 on a read",
                0.2,
                lambda trip, handle: Response(403, {"error": "Forbidden", "errorMessages": ["no"]}),
                ("zendesk", "jira"),
                lambda trip: _reads_or_writes(trip) and not trip.writes,
            ),
            Kind("409", 2, lambda trip, handle: Response(409, {"error": "DatabaseConflict"}), ("zendesk", "jira"), _writes),
            Kind("422", 0.4, self._invalid, ("zendesk", "jira"), _writes),
        )

    def draw(self, trip: Trip) -> tuple[str, Fault] | None:
        """Draw one of the faults that can meet this request, None where none can."""
        fitting = self._fitting(trip)
        if not fitting:
            return None
        kind = self.stage.random.choices(fitting, [kind.weight for kind in fitting])[0]
        return kind.name, kind.act

    def surely(self, trip: Trip) -> tuple[str, Fault] | None:
        """Return the fault whose time has come with this request, None where there is none."""
        for kind in self._fitting(trip):
            if kind.name in self.sure:
                self.sure[kind.name] -= 1
                if self.sure[kind.name] < 0:
                    del self.sure[kind.name]
                    return kind.name, kind.act
        return None

    def _fitting(self, trip: Trip) -> list[Kind]:
        who = f"{trip.system} {'write' if trip.writes else 'read'}"
        return [kind for kind in self.kinds if trip.system in kind.systems and kind.meets(trip) and self.met in f"{who}: {kind.name}"]

    # --- Nothing is carried out

    def _unreachable(self, trip: Trip, handle: Handle) -> Response:
        self.stage.pause(CONNECT_TIMEOUT)
        raise requests.ConnectTimeout("timed out")

    def _refused(self, trip: Trip, handle: Handle) -> Response:
        raise requests.ConnectionError("NewConnectionError: connection refused")

    def _reset_before(self, trip: Trip, handle: Handle) -> Response:
        raise requests.ConnectionError("Connection reset by peer")

    def _unavailable(self, trip: Trip, handle: Handle) -> Response:
        return Response(503, PAGE if self.stage.random.random() < 0.3 else {"error": "unavailable"}, self._retry_after(60)[0])

    def _limited(self, trip: Trip, handle: Handle) -> Response:
        headers, seconds = self._retry_after(self.longest_wait)
        narrow = trip.system == "zendesk" and trip.writes and self.stage.random.random() < 0.5
        reason = self._jira_reason(trip) if trip.system == "jira" else {}
        # A limit without a name may cover no more than this one request.
        if seconds and (trip.system != "jira" or reason):
            self.limited(trip, narrow=narrow or "jira-per-issue-on-write" in reason.values(), seconds=seconds)
        if trip.system == "wave":
            return Response(429, refusal("TOO_MANY_REQUESTS", "Too many requests."), headers)
        if trip.system == "zendesk":
            return Response(429, OBJECT_LIMIT if narrow else MINUTE_LIMIT, headers)
        return Response(429, {"errorMessages": ["Rate limit exceeded."], "errors": {}}, headers | reason)

    def _jira_reason(self, trip: Trip) -> dict[str, str]:
        reasons = ["jira-quota-global-based", "jira-burst-based", "", *(["jira-per-issue-on-write"] if trip.writes else [])]
        reason = self.stage.random.choice(reasons)
        return {"RateLimit-Reason": reason} if reason else {}

    def _retry_after(self, most: int) -> tuple[dict[str, str], float]:
        """Return a Retry-After as seconds, as a date by the vendor's clock, as zero, or none; and how long it surely means."""
        seconds = round(2 ** self.stage.random.uniform(0, 20)) % (most + 1)
        date = format_datetime(self.stage.now + timedelta(seconds=seconds), usegmt=True)
        forms = [({"Retry-After": str(seconds)}, seconds), ({"Retry-After": date}, seconds - 1), ({"Retry-After": "0"}, 0), ({}, 0)]
        return self.stage.random.choice(forms)

    def _invalid(self, trip: Trip, handle: Handle) -> Response:
        details = {"base": [{"description": "Value is not accepted", "error": "InvalidValue"}]}
        return Response(422, {"error": "RecordInvalid", "description": "Record validation errors", "details": details})

    def _wave_error(self, trip: Trip, handle: Handle) -> Response:
        return Response(200, refusal("INTERNAL_SERVER_ERROR", "Internal server error"))

    def _expired(self, trip: Trip, handle: Handle) -> Response:
        token = trip.request.headers.get("authorization", "").removeprefix("Bearer ")
        if trip.system == "jira":
            self.jira.grants.expire_access()
        elif trip.system == "zendesk":
            self.zendesk.expire(token)
        elif self.wave.grants.find(token) is not None:
            self.wave.expire(token)
        return handle(trip.request)

    # --- It is carried out, and the answer does not come through

    def _lost(self, trip: Trip, handle: Handle) -> Response:
        handle(trip.request)
        self.stage.pause(READ_TIMEOUT)
        raise requests.ReadTimeout("timed out")

    def _reset_after(self, trip: Trip, handle: Handle) -> Response:
        handle(trip.request)
        raise requests.ConnectionError("Connection reset by peer")

    def _cut(self, trip: Trip, handle: Handle) -> Response:
        response = handle(trip.request)
        payload, _ = payload_of(response)
        return replace(response, body=payload[: len(payload) // 2]) if payload else response

    def _page_after(self, trip: Trip, handle: Handle) -> Response:
        handle(trip.request)
        return Response(200, PAGE)

    def _bad_gateway(self, trip: Trip, handle: Handle) -> Response:
        handle(trip.request)
        return Response(502, PAGE)


def down(stage: Stage) -> Fault:
    """Return the fault of a vendor that is down altogether."""

    def act(trip: Trip, handle: Handle) -> Any:
        if stage.random.random() < 0.5:
            raise requests.ConnectionError("NewConnectionError: connection refused")
        return Response(503, PAGE)

    return act
