"""The way from production code to the stand-ins without sockets."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, urlsplit

import requests
from requests.structures import CaseInsensitiveDict

from integrations.sandbox.server import Call, Request, Response, StandIn


@contextmanager
def straight(stand_ins: Mapping[str, StandIn]) -> Iterator[None]:
    """Let requests reach the stand-ins in this process: for setting up, where the wire is not what is tested."""

    def send(adapter: object, prepared: requests.PreparedRequest, **more: Any) -> requests.Response:
        request = asked(prepared)
        stand_in = stand_ins[request.prefix.removeprefix("/")]
        return answered(prepared, carried_out(stand_in, request))

    with mock.patch.object(requests.adapters.HTTPAdapter, "send", send):
        yield


def asked(prepared: requests.PreparedRequest) -> Request:
    """Return a request as a stand-in's server would hand it on."""
    parts = urlsplit(str(prepared.url))
    body = prepared.body or b""
    headers = {name.lower(): value for name, value in prepared.headers.items()}
    prefix = "/" + parts.path.split("/")[1]
    query = parse_qs(parts.query, keep_blank_values=True)
    data = body.encode() if isinstance(body, str) else bytes(body)
    return Request(str(prepared.method), parts.path[len(prefix) :] or "/", query, headers, data, prefix, parts.netloc)


def carried_out(stand_in: StandIn, request: Request) -> Response:
    """Let a stand-in answer, and enter the call into its log."""
    response = stand_in.handle(request)
    stand_in.calls.append(Call(stand_in.clock(), request.method, request.path, "", response.status))
    return response


def payload_of(response: Response) -> tuple[bytes, str]:
    """Return the bytes and content type that an answer goes out with."""
    if isinstance(response.body, bytes):
        return response.body, "application/json"
    if isinstance(response.body, str):
        return response.body.encode(), "text/html; charset=utf-8"
    return (b"" if response.body is None else json.dumps(response.body).encode()), "application/json"


def answered(prepared: requests.PreparedRequest, response: Response) -> requests.Response:
    """Return an answer as `requests` would."""
    payload, kind = payload_of(response)
    answer = requests.Response()
    answer.status_code, answer._content, answer.request = response.status, payload, prepared
    answer.url, answer.encoding = str(prepared.url), "utf-8"
    answer.headers = CaseInsensitiveDict({"Content-Type": kind} | response.headers)
    return answer
