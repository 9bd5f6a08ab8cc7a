"""Failures, named by what happens next; `audit.states` decides what that is."""

from datetime import datetime


class ConnectorError(Exception):
    """A run could not do its work.

    `str()` is safe for logs: verb, path, status, our own words. The vendor's own words may name people,
    so they travel apart in `words` and end on the attempt row only.
    """

    code = "error"

    def __init__(self, message: str, *, code: str = "", words: str = "") -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.words = words[:2000]


class Transient(ConnectorError):  # noqa: N818 - the design's words
    """Try again later: the job stays due.

    not_before  the vendor's own earliest time, kept to whatever else happens
    scope       what the wait covers: "" this job, "object" this record at this destination, "connection" the account
    counted     False: a wait that says nothing about the vendor (another worker is at it), so no try is spent
    unsent      True: the request was surely not carried out (no connection was made, or a rate limit refused it)
    record      key of the record that a wait of scope "object" is about, where that is not the job's own
    """

    code = "transient"
    record = ""

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        words: str = "",
        not_before: datetime | None = None,
        scope: str = "",
        counted: bool = True,
        unsent: bool = False,
    ) -> None:
        super().__init__(message, code=code, words=words)
        self.not_before = not_before
        self.scope = scope
        self.counted = counted
        self.unsent = unsent


class Disconnected(ConnectorError):  # noqa: N818
    """The grant is dead: only a person can reconnect; jobs wait as blocked."""

    code = "disconnected"


class Rejected(ConnectorError):  # noqa: N818
    """The vendor refused this record; no repetition mends it."""

    code = "rejected"


class Missing(Rejected):
    """The remote object to be changed does not exist (any more)."""

    code = "missing"


class Unmappable(ConnectorError):  # noqa: N818
    """Our mapping cannot turn this record into what the destination takes."""

    code = "unmappable"


class Misconfigured(ValueError):  # noqa: N818
    """What a person entered cannot work; the message says what to do."""
