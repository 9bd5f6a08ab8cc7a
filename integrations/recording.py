"""Puts each HTTP exchange on the attempt rows it was made for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audit import ledger
from audit.models import Attempt


@dataclass(frozen=True, slots=True)
class AttemptRecorder:
    """A recorder for one attempt, or for all attempts that share a read.

    A request is entered before it goes out, so that a worker that dies leaves a trace of what it may have written.
    """

    attempts: Sequence[Attempt]
    system: str

    def sending(self, method: str, path: str) -> Any:
        """Enter the request on every attempt."""
        return ledger.enter_exchange(self.attempts, system=self.system, method=method, path=path or "/")

    def answered(self, token: Any, status: int | None, milliseconds: int, request_id: str) -> None:
        """Add the answer."""
        ledger.answer_exchange(token, status=status, milliseconds=milliseconds, request_id=request_id)
