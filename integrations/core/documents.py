"""Documents: the desired state of remote objects, and how it compares with what was last written."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from integrations.core.errors import ConnectorError

# str, int, bool, Decimal, date, None, a Link, or lists and dicts of these (an ADF document is a dict).
Value = Any


@dataclass(frozen=True, slots=True)
class Link:
    """A field value that stands for the remote id of another document of the same route."""

    kind: str
    key: str


@dataclass(frozen=True, slots=True)
class Document:
    """The desired state of one remote object.

    kind        the destination's name for it: organization, user, wave_invoice, issue, worklog ...
    key         of the record it mirrors; (kind, key) is unique per route
    fields      what is compared and written, by the destination's own field name
    trace       sent along with a write, never compared: audit time, job id
    parent      the document whose remote object must exist first; its remote id is handed to `write`
    upsert      True: a create may be repeated safely, for the destination finds the key itself
    find_lags   True: a look-up may miss what was created a moment ago (only asked where upsert is False)
    partial     True: only these fields are to be written; what else was written stays
    modified_at of the record at the source
    """

    kind: str
    key: str
    fields: Mapping[str, Value]
    trace: Mapping[str, Value] = field(default_factory=dict)
    parent: Link | None = None
    upsert: bool = True
    find_lags: bool = True
    partial: bool = False
    modified_at: datetime | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Bound:
    """What we remember of a remote object when writing: empty ids mean that none is known.

    `changed` names the fields whose hash differs from what was last written.
    """

    remote_id: str = ""
    parent_id: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Written:
    """What a write led to.

    facts       JSON values to remember with the binding (the issue's key, its status)
    dropped     fields that the destination did not take, with its reason: they were left out, the rest was written
    notes       codes for the attempt, e.g. status_unmapped
    withheld    True: nothing was written on purpose; the same is tried again at the next run
    """

    remote_id: str
    created: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """What a bulk read saw of one remote object.

    remote_id   "" where several carry the key: then `twins` are their ids, and nothing else is told
    held        the object's own members, for `drift`; empty where it exists and the vendor could not show it just now
    amount      the money that it shows as due (of a customer: outstanding; of a payment: its amount), None where no mapping shows any
    children    remote ids of the worklogs or comments that came along; None where they did not come whole
    """

    remote_id: str
    held: Mapping[str, Any] = field(default_factory=dict, repr=False)
    amount: Decimal | None = None
    children: frozenset[str] | None = None
    twins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bulk:
    """One bulk call.

    id          the vendor's job id, "" where it answered at once
    done        False while the vendor is at it
    written     by key: what is surely written
    refused     by key: why one was not written, as an error of its own
    unknown     keys of which the answer does not say what became: they are observed and finished one by one
    progress    how many the vendor says it has done, None where it does not say
    sent        by key: the remote id that the call named, "" for an object to be made
    """

    id: str
    kind: str
    done: bool = False
    written: Mapping[str, Written] = field(default_factory=dict)
    refused: Mapping[str, ConnectorError] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    progress: int | None = None
    sent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Carried:
    """A page of what carries our keys at a destination: key and remote id; `next` asks for the page after it, "" on the last."""

    found: tuple[tuple[str, str], ...]
    next: str = ""


def plain(value: Value) -> Any:
    """Return the value as JSON can carry it; decimals become strings."""
    if isinstance(value, Decimal | date | datetime):
        return str(value)
    if isinstance(value, Link):
        return f"{value.kind}:{value.key}"
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def hashes(fields: Mapping[str, Value]) -> dict[str, str]:
    """Return one short digest per field, to be compared with those of the last write."""
    return {
        name: hashlib.sha256(json.dumps(plain(value), sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
        for name, value in fields.items()
    }


def changed_fields(wanted: Mapping[str, str], written: Mapping[str, str]) -> frozenset[str]:
    """Return the names of fields whose digest is new or different."""
    return frozenset(name for name, digest in wanted.items() if written.get(name) != digest)
