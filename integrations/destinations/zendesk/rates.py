"""Zendesk's limits: the plan's requests per minute, buckets of single endpoints, and user writes once a second.

https://developer.zendesk.com/api-reference/introduction/rate-limits/
"""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from integrations.core.errors import Transient
from integrations.destinations.zendesk.refusals import refusal
from integrations.http import Answer
from integrations.rates import Rates, Told, endpoint, number

ACCOUNT = "account"
USER_WRITES = "user writes"
PREFIX = "/api/v2/"
MINUTE = 60
# The names vary from answer to answer and from year to year: all are read, none is relied on.
LIMIT = ("x-rate-limit", "ratelimit-limit", "rate-limit")
REMAINING = ("x-rate-limit-remaining", "ratelimit-remaining", "rate-limit-remaining")
RESET = ("ratelimit-reset", "rate-limit-reset")
# zendesk-ratelimit-tickets-index: total=100; remaining=99; resets=41
ENDPOINT_HEADER = re.compile(r"zendesk-rate-?limit-.+")
MEMBER = re.compile(r"(total|remaining|resets)\s*=\s*(\d{1,9})(?!\d)")
USER_WRITE = re.compile(r"(PUT users/\*|POST users/create_or_update)(\.json)?")


def classify(method: str, path: str) -> tuple[str, ...]:
    """Return the buckets of a request beside the account's: its endpoint's, and for the update of a user the account's 1 a second."""
    kind = endpoint(method, path, PREFIX)
    return (USER_WRITES, kind) if USER_WRITE.fullmatch(kind) else (kind,)


def learn(method: str, path: str, answer: Answer, at: datetime) -> list[Told]:
    """Return what an answer's headers, or its refusal of the whole account, tell."""
    return [*_account(answer, at), *_endpoint(method, path, answer, at), *_refused(method, path, answer)]


def _account(answer: Answer, at: datetime) -> Iterator[Told]:
    limit, remaining = number(answer.headers, *LIMIT), number(answer.headers, *REMAINING)
    if limit and remaining is not None:
        yield Told(ACCOUNT, limit, remaining, _reset(number(answer.headers, *RESET), at), MINUTE)


def _endpoint(method: str, path: str, answer: Answer, at: datetime) -> Iterator[Told]:
    for name, value in answer.headers.items():
        if ENDPOINT_HEADER.fullmatch(name.lower()):
            told = {member: int(digits) for member, digits in MEMBER.findall(value)}
            if told.get("total") and "remaining" in told:
                # By the request's own name: the vendor's suffix says nothing of the next request's bucket.
                yield Told(endpoint(method, path, PREFIX), told["total"], told["remaining"], _reset(told.get("resets"), at), MINUTE)


def _refused(method: str, path: str, answer: Answer) -> Iterator[Told]:
    if answer.status == 429:
        error = refusal(method, path, answer)
        if isinstance(error, Transient) and error.scope == "connection":
            yield Told(ACCOUNT, 0, 0, error.not_before, MINUTE)


def _reset(seconds: int | None, at: datetime) -> datetime | None:
    return None if seconds is None else at + timedelta(seconds=max(1, min(seconds, 86_400)))


RATES = Rates(ACCOUNT, classify, learn, fixed={USER_WRITES: (1, 1)})
