"""The wire between production code and the stand-ins: no sockets, but time, faults and witnesses on the way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests
from django.db import connections

from integrations.sandbox.server import Request, Response, StandIn
from tests.simulation.ground import Ground
from tests.straight import answered, asked, carried_out

HOST = "127.0.0.1:9"  # never called
BASE = f"http://{HOST}"
SECOND_PAGE = "a second page"


@dataclass(frozen=True, slots=True)
class Trip:
    """One request on its way: to whom, and whether it would change something there."""

    system: str
    request: Request
    writes: bool
    token: bool  # asks for an access token

    @property
    def turns_a_page(self) -> bool:
        """Whether it asks for more of a list of Wave's than its first page."""
        return self.system == "wave" and b'"after"' in self.request.body

    @property
    def told(self) -> str:
        """The trip in a few words."""
        return f"{self.request.method} {self.system}{self.request.path}"


Handle = Callable[[Request], Response]
# Gets the trip and what carries it out; returns the answer, or raises what `requests` would raise.
Fault = Callable[[Trip, Handle], Response]


class Wire:
    """Carries requests to the stand-ins."""

    def __init__(self, ground: Ground, stand_ins: Mapping[str, StandIn]) -> None:
        self.ground = ground
        self.stand_ins = stand_ins
        self.fault: Callable[[Trip], tuple[str, Fault] | None] = lambda trip: None
        self.latency: Callable[[], float] = lambda: 0.0
        self.sent: Callable[[Trip], object] = lambda trip: None
        self.arrived: Callable[[Trip, Response], object] = lambda trip, response: None
        self.ended: Callable[[Trip], object] = lambda trip: None

    def send(self, prepared: requests.PreparedRequest, **more: Any) -> requests.Response:
        """Stand for the sending of a request by an adapter of `requests`."""
        trip = _retold(asked(prepared))
        if self.ground.actor is None:
            return answered(prepared, self._carry_out(trip))
        return answered(prepared, self._travel(trip))

    def _travel(self, trip: Trip) -> Response:
        ground, stage = self.ground, self.ground.stage
        assert stage is not None
        if connections["default"].in_atomic_block:
            stage.violate(f"{trip.told} is sent inside a transaction")
        ground.point("before call")
        self.sent(trip)
        try:
            stage.pause(self.latency())
            fault = self.fault(trip)
            stage.happened[fault[0] if fault else "a call without a fault"] += 1
            stage.happened[SECOND_PAGE] += trip.turns_a_page
            stage.note(f"{trip.told}{f' meets {fault[0]}' if fault else ''}")
            response = fault[1](trip, self._handled) if fault else self._carry_out(trip)
            stage.note(f"answers {response.status} to {trip.told}")
            ground.point("after write" if trip.writes or trip.token else "after read")
            stage.pause(self.latency())
        finally:
            self.ended(trip)
        return response

    def _handled(self, request: Request) -> Response:
        return self._carry_out(_retold(request))

    def _carry_out(self, trip: Trip) -> Response:
        response = carried_out(self.stand_ins[trip.system], trip.request)
        if self.ground.actor is not None:
            self.arrived(trip, response)
        return response


def _retold(request: Request) -> Trip:
    token = "/token" in request.path and request.method == "POST"
    reads = request.method == "GET" or token or request.path.endswith(("/search/jql", "/graphql/public", "/bulkfetch"))
    return Trip(request.prefix.removeprefix("/"), request, writes=not reads, token=token)
