"""What a system says of its limits: which limits a request falls under, and what an answer tells of them. Values only."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from integrations.http import Answer


@dataclass(frozen=True, slots=True)
class Told:
    """What one answer tells of one limit.

    limit      calls in a window of so many seconds; 0 where only a time to wait for is told
    remaining  how many of them are left, whoever uses the account
    resets_at  when all are there again; None where the vendor does not say
    """

    bucket: str
    limit: int
    remaining: int
    resets_at: datetime | None
    window: int = 60


@dataclass(frozen=True, slots=True)
class Rates:
    """How a system limits; both functions are pure and never raise, whatever arrives.

    whole     the bucket that every call counts in: used up, the whole account waits
    classify  the other buckets of a request (method, path), most of which nothing is ever told of
    learn     from method, path, answer and the time it came
    fixed     limits that are documented and not told in answers: bucket -> (calls, seconds)
    """

    whole: str
    classify: Callable[[str, str], tuple[str, ...]]
    learn: Callable[[str, str, Answer, datetime], list[Told]]
    fixed: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def endpoint(method: str, path: str, prefix: str) -> str:
    """Return a request as one of its kind, e.g. `PUT organizations/*`: what holds a digit is an id."""
    parts = path.removeprefix(prefix).strip("/").split("/")
    return f"{method} {'/'.join('*' if any(sign.isdigit() for sign in part) else part for part in parts)}"[:120]


def number(headers: Mapping[str, str], *names: str) -> int | None:
    """Return the first of the headers that is a whole number of at least 0, None without one."""
    told = (headers.get(name, "").strip() for name in names)
    return next((int(text) for text in told if text.isascii() and text.isdecimal() and len(text) < 10), None)
