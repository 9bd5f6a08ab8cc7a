"""Events: what a delivery says happened, and the record it points at."""

from dataclasses import dataclass, field
from enum import StrEnum

TEST_EVENT = "connector.test"  # the type of a test delivery that we send ourselves: it is stored and does nothing


class Decision(StrEnum):
    """What intake decided about a delivery."""

    ACCEPTED = "accepted"
    IGNORED = "ignored"
    UNKNOWN = "unknown"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Event:
    """A parsed delivery; numbers are the numeric parts of Wave's ids, empty when the delivery gave none.

    `business` is the business's uuid, or "" when the delivery does not say.
    """

    id: str
    type: str
    business: str
    customer: str = ""
    invoice: str = ""
    payment: str = ""


class VerdictReason(StrEnum):
    """Why a signature did not hold; BARE is a right signature of the body alone, which a replay would carry too."""

    MISSING = "missing"
    MALFORMED = "malformed"
    MISMATCH = "mismatch"
    STALE = "stale"
    BARE = "bare"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request is verified; `reason` says why not. STALE means rightly signed but outside the window.

    `secret` is the number of the secret that fits, `skew` how many seconds the signer's clock said more than ours;
    both only where the signature is right.
    """

    verified: bool
    reason: VerdictReason | None = None
    secret: int = field(default=-1, compare=False)
    skew: float = field(default=0.0, compare=False)
