"""What the systems' headers teach, in every spelling that was seen."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from requests.structures import CaseInsensitiveDict

from integrations.destinations.jira import rates as jira
from integrations.destinations.zendesk import rates as zendesk
from integrations.http import Answer
from integrations.rates import Told
from integrations.sources.wave import rates as wave

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ORGANIZATION, TOO_MANY = "/api/v2/organizations/35436", b"Number of allowed API requests per minute exceeded".decode()


def answer(headers: dict[str, str], status: int = 200, data: Any = None, text: str = "") -> Answer:
    return Answer(status, data, text, CaseInsensitiveDict(headers))


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, []),
        ({"X-Rate-Limit": "200", "X-Rate-Limit-Remaining": "199"}, [Told("account", 200, 199, None, 60)]),
        (
            {
                "x-rate-limit": "200",
                "x-rate-limit-remaining": "9",
                "ratelimit-limit": "200",
                "ratelimit-remaining": "9",
                "ratelimit-reset": "41",
            },
            [Told("account", 200, 9, after(41), 60)],
        ),
        ({"ratelimit-limit": "200", "ratelimit-remaining": "0", "ratelimit-reset": "0"}, [Told("account", 200, 0, after(1), 60)]),
        ({"rate-limit": "700", "rate-limit-remaining": "699", "rate-limit-reset": "60"}, [Told("account", 700, 699, after(60), 60)]),
        ({"x-rate-limit": "200"}, []),
        ({"x-rate-limit-remaining": "20"}, []),
        ({"x-rate-limit": "0", "x-rate-limit-remaining": "0"}, []),
        ({"x-rate-limit": "many", "x-rate-limit-remaining": "-1"}, []),
        ({"x-rate-limit": "9" * 30, "x-rate-limit-remaining": "1"}, []),
        (
            {"Zendesk-RateLimit-Organizations-Update": "total=100; remaining=99; resets=41"},
            [Told("PUT organizations/*", 100, 99, after(41), 60)],
        ),
        ({"zendesk-rate-limit-organizations-update": "total=100;remaining=0"}, [Told("PUT organizations/*", 100, 0, None, 60)]),
        ({"zendesk-ratelimit-organizations-update": "total=x; remaining=; resets"}, []),
    ],
)
def test_zendesks_headers(headers: dict[str, str], told: list[Told]) -> None:
    assert zendesk.learn("PUT", ORGANIZATION, answer(headers), NOW) == told


@pytest.mark.parametrize(
    ("path", "headers", "text", "told"),
    [
        ("/api/v2/organizations", {"Retry-After": "45"}, TOO_MANY, [Told("account", 0, 0, after(45), 60)]),
        ("/api/v2/organizations", {}, TOO_MANY, [Told("account", 0, 0, after(10), 60)]),
        # The limit of one object is no limit of the account.
        (ORGANIZATION, {"Retry-After": "45"}, "You have exceeded the rate limit for updating a single unique user.", []),
    ],
)
def test_zendesks_refusal_of_the_account_says_how_long_it_lasts(path: str, headers: dict[str, str], text: str, told: list[Told]) -> None:
    with time_machine.travel(NOW, tick=False):
        assert zendesk.learn("PUT", path, answer(headers, 429, text=text), NOW) == told


@pytest.mark.parametrize(
    ("method", "path", "buckets"),
    [
        ("PUT", ORGANIZATION, ("PUT organizations/*",)),
        ("PUT", "/api/v2/users/7", ("user writes", "PUT users/*")),
        ("POST", "/api/v2/users/create_or_update", ("user writes", "POST users/create_or_update")),
        ("GET", "/api/v2/users/7", ("GET users/*",)),
        ("PATCH", "/api/v2/custom_objects/wave_invoice/records/01K0000001", ("PATCH custom_objects/wave_invoice/records/*",)),
    ],
)
def test_zendesks_requests_fall_under_their_endpoint(method: str, path: str, buckets: tuple[str, ...]) -> None:
    assert zendesk.classify(method, path) == buckets


ISSUE = "/rest/api/3/issue/10001"
QUOTA = {"RateLimit-Policy": '"global-app-quota";q=65000;w=3600', "RateLimit": '"global-app-quota";r=11000;t=600'}
PLAIN = {"X-RateLimit-Limit": "100", "X-RateLimit-Remaining": "12"}


@pytest.mark.parametrize(
    ("headers", "status", "told"),
    [
        ({}, 200, []),
        (QUOTA, 200, [Told("hourly quota", 65000, 11000, after(600), 3600)]),
        ({f"Beta-{name}": value for name, value in QUOTA.items()}, 200, []),
        ({"RateLimit-Policy": QUOTA["RateLimit-Policy"]}, 200, []),
        ({"RateLimit-Policy": '"a";q=10;w=60', "RateLimit": '"b";r=1;t=9'}, 200, []),
        (
            {"RateLimit-Policy": '"app";q=65000;w=3600, "site";q=1000;w=3600', "RateLimit": '"app";r=64000;t=600, "site";r=10;t=600'},
            200,
            [Told("hourly quota", 1000, 10, after(600), 3600)],
        ),
        ({**PLAIN, "X-RateLimit-Reset": "2026-11-20T12:00:01Z"}, 200, [Told("PUT issue/*", 100, 12, after(1), 1)]),
        ({**PLAIN, "X-RateLimit-Reset": "2026-11-20T13:00Z"}, 200, [Told("hourly quota", 100, 12, after(3600), 3600)]),
        ({**PLAIN, "X-RateLimit-Reset": "2026-11-20T11:59Z"}, 200, []),
        (PLAIN, 200, []),
        ({**PLAIN, "X-RateLimit-Reset": "soon"}, 200, []),
        (
            {**PLAIN, "X-RateLimit-Remaining": "0", "RateLimit-Reason": "jira-burst-based", "Retry-After": "3"},
            429,
            [Told("PUT issue/*", 100, 0, None, 1), Told("PUT issue/*", 0, 0, after(3), 3600)],
        ),
        ({"RateLimit-Reason": "jira-quota-tenant-based"}, 429, [Told("hourly quota", 0, 0, after(3600), 3600)]),
        ({"RateLimit-Reason": "jira-quota-global-based", "Retry-After": "4000"}, 429, [Told("hourly quota", 0, 0, after(4000), 3600)]),
        # One issue's limit concerns that issue.
        ({**PLAIN, "RateLimit-Reason": "jira-per-issue-on-write", "Retry-After": "2"}, 429, []),
        ({"Retry-After": "2"}, 429, []),
    ],
)
def test_jiras_headers(headers: dict[str, str], status: int, told: list[Told]) -> None:
    with time_machine.travel(NOW, tick=False):
        assert jira.learn("PUT", ISSUE, answer(headers, status), NOW) == told


def test_jiras_requests_fall_under_their_endpoint() -> None:
    assert jira.classify("POST", f"{ISSUE}/worklog") == ("POST issue/*/worklog",)


@pytest.mark.parametrize(("headers", "seconds"), [({"Retry-After": "30"}, 30), ({}, 10), ({"Retry-After": "0"}, 10)])
def test_wave_tells_of_its_limit_when_it_refuses(headers: dict[str, str], seconds: int) -> None:
    assert wave.learn("POST", "", answer(headers, 429), NOW) == [Told("account", 0, 0, after(seconds))]
    assert wave.learn("POST", "", answer(headers, 200), NOW) == []
