"""Jira's three systems of limits: points per hour, bursts per endpoint, writes per issue.

The last concerns one object and is learnt from its 429 alone. https://developer.atlassian.com/cloud/jira/platform/rate-limiting/
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from integrations.core.errors import Transient
from integrations.destinations.jira.client import REST
from integrations.destinations.jira.refusals import refusal
from integrations.http import Answer
from integrations.rates import Rates, Told, endpoint, number

QUOTA = "hourly quota"
HOUR, BURST = 3600, 1
BURST_ENDS_WITHIN = timedelta(minutes=1)  # bursts are counted per second, points per hour
REASON = "RateLimit-Reason"
# RateLimit-Policy: "global-app-quota";q=65000;w=3600, "tenant-quota";q=... and RateLimit: "global-app-quota";r=11000;t=600
POLICY = re.compile(r'"([^"]+)"((?:\s*;\s*[a-z]+=\d{1,9})*)')
MEMBER = re.compile(r"([a-z]+)=(\d{1,9})")


def classify(method: str, path: str) -> tuple[str, ...]:
    """Return the bucket of the request's endpoint; the hour's points are everybody's."""
    return (endpoint(method, path, REST),)


def learn(method: str, path: str, answer: Answer, at: datetime) -> list[Told]:
    """Return what an answer's headers tell; what begins with `Beta-` is not enforced and says nothing."""
    return [*_policies(answer.headers, at), *_plain(method, path, answer, at), *_refused(method, path, answer)]


def _policies(headers: Mapping[str, str], at: datetime) -> Iterator[Told]:
    """Several policies count the same points, per app and per site: the one with the least left decides."""
    policies, now = _members(headers.get("RateLimit-Policy", "")), _members(headers.get("RateLimit", ""))
    both = [(policies[name], now[name]) for name in policies if name in now]
    told = [(policy, left) for policy, left in both if policy.get("q") and "r" in left]
    if told:
        policy, left = min(told, key=lambda pair: pair[1]["r"] / pair[0]["q"])
        resets_at = at + timedelta(seconds=max(1, left["t"])) if "t" in left else None
        yield Told(QUOTA, policy["q"], left["r"], resets_at, max(1, policy.get("w", HOUR)))


def _members(header: str) -> dict[str, dict[str, int]]:
    return {name: {key: int(digits) for key, digits in MEMBER.findall(rest)} for name, rest in POLICY.findall(header)}


def _plain(method: str, path: str, answer: Answer, at: datetime) -> Iterator[Told]:
    """X-RateLimit-* tell of whichever limit is nearest: the reason says which, without one the time of its end."""
    limit, remaining = number(answer.headers, "X-RateLimit-Limit"), number(answer.headers, "X-RateLimit-Remaining")
    reason = answer.headers.get(REASON, "")
    if not limit or remaining is None or reason.startswith("jira-per-issue"):
        return
    resets_at = _time(answer.headers.get("X-RateLimit-Reset", ""), at)
    soon = resets_at is not None and resets_at - at <= BURST_ENDS_WITHIN
    if reason.startswith("jira-burst") or (soon and not reason.startswith("jira-quota")):
        yield Told(endpoint(method, path, REST), limit, remaining, resets_at, BURST)
    elif reason.startswith("jira-quota") or resets_at is not None:
        yield Told(QUOTA, limit, remaining, resets_at, HOUR)


def _time(text: str, at: datetime) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return found if at < found <= at + timedelta(days=1) else None


def _refused(method: str, path: str, answer: Answer) -> Iterator[Told]:
    if answer.status != 429:
        return
    error = refusal(method, path, answer)
    if isinstance(error, Transient) and error.not_before is not None and error.code in ("quota", "burst"):
        yield Told(QUOTA if error.code == "quota" else endpoint(method, path, REST), 0, 0, error.not_before, HOUR)


RATES = Rates(QUOTA, classify, learn)
