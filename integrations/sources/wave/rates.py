"""Wave's limits: it publishes none and tells of none until it refuses; the operator's settings keep below what is reported."""

from datetime import UTC, datetime

from integrations.http import Answer, retry_after
from integrations.rates import Rates, Told
from integrations.sources.wave.graphql import THROTTLE_PAUSE

ACCOUNT = "account"


def classify(method: str, path: str) -> tuple[str, ...]:
    """Return nothing: all questions go to one address."""
    return ()


def learn(method: str, path: str, answer: Answer, at: datetime) -> list[Told]:
    """Return until when to wait after a refusal."""
    if answer.status != 429:
        return []
    return [Told(ACCOUNT, 0, 0, retry_after(answer.headers, now=at.astimezone(UTC)) or at + THROTTLE_PAUSE)]


RATES = Rates(ACCOUNT, classify, learn)
