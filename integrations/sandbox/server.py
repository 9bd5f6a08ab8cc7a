"""The plumbing that the three stand-ins share: routing, faults, a call log and a threaded HTTP server."""

import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """One request as a stand-in sees it; `path` has the stand-in's own prefix taken off."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]  # names in lower case
    body: bytes
    prefix: str = ""  # what was taken off, e.g. /zendesk
    host: str = ""

    def json(self) -> Any:
        """Return the decoded body; raise ValueError when it is no JSON."""
        return json.loads(self.body or b"null")

    def arg(self, name: str, default: str = "") -> str:
        """Return the first value of a query parameter."""
        return self.query.get(name, [default])[0]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: dicts and lists become JSON, str becomes HTML, bytes go out as they are."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """One line of a stand-in's log."""

    at: datetime
    method: str
    path: str
    query: str
    status: int


@dataclass
class Fault:
    """A switch for one way to fail; it is spent after `times` matching requests (0 = for ever).

    kind: status | html | cut | reset before the handler (nothing is committed),
          lost after the handler (committed, the answer never comes),
          slow before and hang after it, for `seconds`.
    """

    kind: str
    method: str = "*"
    path: str = ""  # regular expression, searched in the path
    times: int = 1
    status: int = 503
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def matches(self, request: Request) -> bool:
        """Say whether this fault applies to the request."""
        return self.method in ("*", request.method) and re.search(self.path, request.path) is not None


Handler = Callable[..., Response]


class StandIn:
    """A vendor's stand-in: subclasses register handlers and keep state; one lock guards both."""

    name: ClassVar[str] = ""
    consent_at_once = False  # no page: the person approves as soon as the browser comes

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.faults: list[Fault] = []
        self.calls: list[Call] = []
        self.routes: list[tuple[str, re.Pattern[str], Handler]] = []

    def route(self, method: str, pattern: str, handler: Handler) -> None:
        """Add a handler; `pattern` is a full-match regular expression, its groups become arguments."""
        self.routes.append((method, re.compile(pattern), handler))

    def handle(self, request: Request) -> Response:
        """Find the handler and run it under the lock. Override to check credentials first."""
        methods = set()
        for method, pattern, handler in self.routes:
            match = pattern.fullmatch(request.path)
            if match is None:
                continue
            methods.add(method)
            if method == request.method:
                with self.lock:
                    return handler(request, *(unquote(group) for group in match.groups()))
        return Response(405 if methods else 404, {"error": f"{self.name} sandbox knows no {request.method} {request.path}"})

    def state(self) -> dict[str, Any]:
        """Return the whole state as plain JSON values, in a stable order, for tests to compare."""
        raise NotImplementedError

    def take_fault(self, request: Request) -> Fault | None:
        """Spend and return the first fault that matches."""
        with self.lock:
            for fault in self.faults:
                if fault.matches(request):
                    if fault.times:
                        fault.times -= 1
                        if not fault.times:
                            self.faults.remove(fault)
                    return fault
        return None

    def writes(self) -> list[Call]:
        """Return the logged calls that are no GET and no token request."""
        return [call for call in self.calls if call.method != "GET" and "oauth" not in call.path and "/auth/" not in call.path]


class Control(StandIn):
    """Switches for other processes: /control/<stand-in>/{faults,state,calls} and whatever a stand-in adds itself."""

    name = "control"

    def __init__(self, stand_ins: dict[str, StandIn]) -> None:
        super().__init__()
        self.stand_ins = stand_ins
        self.route("POST", "/([a-z]+)/faults", self.add_fault)
        self.route("DELETE", "/([a-z]+)/faults", self.clear_faults)
        self.route("GET", "/([a-z]+)/state", lambda request, name: Response(200, stand_ins[name].state()))
        self.route("GET", "/([a-z]+)/calls", self.list_calls)

    def add_fault(self, request: Request, name: str) -> Response:
        """Add one fault, given as the JSON members of Fault."""
        with self.stand_ins[name].lock:
            self.stand_ins[name].faults.append(Fault(**request.json()))
        return Response(201, {})

    def clear_faults(self, request: Request, name: str) -> Response:
        """Remove all faults of a stand-in."""
        self.stand_ins[name].faults.clear()
        return Response(200, {})

    def list_calls(self, request: Request, name: str) -> Response:
        """Return the call log."""
        return Response(200, [[call.method, call.path, call.status] for call in self.stand_ins[name].calls])


class _ClosedError(Exception):
    """The connection is to be cut without an answer."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    mounts: dict[str, StandIn]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about cut connections: the faults make them on purpose."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet; the stand-ins keep their own call log."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        prefix = "/" + parts.path.split("/")[1]
        stand_in = self.server.mounts.get(prefix)
        if stand_in is None:
            self._answer(Response(404, {"error": "no such stand-in"}))
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = parts.path[len(prefix) :] or "/"
        query = parse_qs(parts.query, keep_blank_values=True)
        request = Request(self.command, path, query, headers, body, prefix, self.headers.get("Host", ""))
        try:
            response = self._with_faults(stand_in, request)
        except _ClosedError:
            self._log(stand_in, request, parts.query, 0)
            self.close_connection = True
            # A reset, not an orderly end: linger 0 makes close() send RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        self._log(stand_in, request, parts.query, response.status)
        self._answer(response)

    def _log(self, stand_in: StandIn, request: Request, query: str, status: int) -> None:
        # Before the answer goes out, so that a client that has it finds the call in the log.
        with stand_in.lock:
            stand_in.calls.append(Call(stand_in.clock(), request.method, request.path, query, status))

    def _with_faults(self, stand_in: StandIn, request: Request) -> Response:
        fault = stand_in.take_fault(request)
        if fault is None:
            return stand_in.handle(request)
        if fault.kind == "status":
            return Response(fault.status, fault.body if fault.body is not None else {"error": "sandbox fault"}, fault.headers)
        if fault.kind == "html":
            return Response(fault.status if fault.status != 503 else 200, "<html><body>Down for maintenance</body></html>")
        if fault.kind == "reset":
            raise _ClosedError
        if fault.kind == "slow":
            time.sleep(fault.seconds)
        response = stand_in.handle(request)
        if fault.kind == "hang":
            time.sleep(fault.seconds)
        if fault.kind in ("lost", "hang"):
            raise _ClosedError
        if fault.kind == "cut":
            return Response(response.status, json.dumps(response.body).encode()[: max(1, len(json.dumps(response.body)) // 2)])
        return response

    def _answer(self, response: Response) -> None:
        kind = "application/json"
        if isinstance(response.body, bytes):
            payload = response.body
        elif isinstance(response.body, str):
            payload, kind = response.body.encode(), "text/html; charset=utf-8"
        else:
            payload = b"" if response.body is None else json.dumps(response.body).encode()
        self.send_response(response.status)
        for name, value in ({"Content-Type": kind} | response.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815


def make_server(stand_ins: dict[str, StandIn], port: int = 0) -> ThreadingHTTPServer:
    """Bind the stand-ins on loopback under /<name>, beside /control; port 0 takes a free one."""
    server = _Server(("127.0.0.1", port), _Connection)
    server.mounts = {f"/{name}": stand_in for name, stand_in in stand_ins.items()} | {"/control": Control(stand_ins)}
    return server


@contextlib.contextmanager
def serving(stand_ins: dict[str, StandIn], port: int = 0) -> Iterator[str]:
    """Serve the stand-ins from a thread and yield the base URL, e.g. http://127.0.0.1:43211."""
    server = make_server(stand_ins, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
