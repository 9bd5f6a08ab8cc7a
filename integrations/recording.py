"""Puts each HTTP exchange on the attempt rows it was made for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audit import trail
from audit.models import Attempt


@dataclass(slots=True)
class Turning:
    """A recorder that writes to another one, which changes: first a whole batch's, then each job's own."""

    to: "AttemptRecorder"

    def sending(self, method: str, path: str) -> Any:
        """Enter the request where it belongs now."""
        return self.to, self.to.sending(method, path)

    def answered(self, token: Any, status: int | None, milliseconds: int, request_id: str) -> None:
        """Add the answer to where the request was entered."""
        to, entered = token
        to.answered(entered, status, milliseconds, request_id)


@dataclass(slots=True)
class AttemptRecorder:
    """A recorder for one attempt, or for all attempts that share a read.

    A request is entered before it goes out, so that a worker that dies leaves a trace of what it may have written.

    carried_out  how many requests that may write were answered well
    """

    attempts: Sequence[Attempt]
    system: str
    carried_out: int = 0

    def sending(self, method: str, path: str) -> Any:
        """Enter the request on every attempt."""
        return trail.enter_exchange(self.attempts, system=self.system, method=method, path=path or "/")

    def answered(self, token: Any, status: int | None, milliseconds: int, request_id: str) -> None:
        """Add the answer."""
        trail.answer_exchange(token, status=status, milliseconds=milliseconds, request_id=request_id)
        self.carried_out += status is not None and status < 300 and any(row.method != "GET" for row in token)
