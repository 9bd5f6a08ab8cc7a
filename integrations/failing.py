"""What a failure means: for the job it met, for its account, and for what else is to be brought there."""

import logging
import traceback
from collections import Counter
from dataclasses import dataclass, field, replace

from django.db import DatabaseError
from django.utils import timezone

from audit import holds, ledger
from audit.models import Attempt, SyncJob
from audit.states import Ending, Outcome
from integrations import breaker, oauth, systems
from integrations.core.errors import ConnectorError, Disconnected, Misconfigured, Transient, Unmappable
from integrations.core.records import kind_of
from integrations.models import Connection

log = logging.getLogger(__name__)

NO_ANSWER = frozenset({"no_answer", "server_error", "unavailable"})
GIVES_UP_AFTER = 2  # calls without an answer in a row: one alone may be this record's own


@dataclass(slots=True)
class Stopped:
    """Accounts that the jobs of one batch need not call any more, because of what others of it met there."""

    _errors: dict[int, ConnectorError] = field(default_factory=dict)
    _unanswered: Counter[int] = field(default_factory=Counter)

    def check(self, connection_id: int) -> None:
        """Raise what stopped an account."""
        if connection_id in self._errors:
            raise self._errors[connection_id]

    def by(self, connection_id: int) -> ConnectorError | None:
        """Return what stopped an account, if anything has."""
        return self._errors.get(connection_id)

    def note(self, connection_id: int, error: ConnectorError | None) -> None:
        """Note how a job fared there; None: it was brought."""
        if error is not None and concerns_account(error):
            self._errors[connection_id] = breaker.for_siblings(error)
        elif isinstance(error, Transient) and error.code in NO_ANSWER:
            self._unanswered[connection_id] += 1
            if self._unanswered[connection_id] >= GIVES_UP_AFTER:
                # Another job's message would name another record.
                told = f"not called: it did not answer {GIVES_UP_AFTER} times in a row just now"
                self._errors[connection_id] = Transient(told, code=error.code, not_before=error.not_before, unsent=True)
        else:
            del self._unanswered[connection_id]


def concerns_account(error: ConnectorError) -> bool:
    """Whether the error is the account's and not this record's."""
    return isinstance(error, Disconnected) or (isinstance(error, Transient) and error.scope == "connection")


def told(error: Exception, about: object) -> ConnectorError:
    """Return what an exception means for its job; what the database says is raised on, for the lease then brings the job back.

    An account that is set up wrongly waits for a person, like one whose grant is dead. A defect of ours must not take
    other jobs down with it: its text may hold what a record says, so only its kind and place are logged.
    """
    if isinstance(error, DatabaseError):
        raise error
    if isinstance(error, ConnectorError):
        return error
    if isinstance(error, Misconfigured):
        return Disconnected(str(error), code="misconfigured")
    place = traceback.extract_tb(error.__traceback__)[-1]
    log.error("%s met a defect: %s in %s:%s", about, type(error).__name__, place.name, place.lineno)
    return Transient("a defect in this product; the log names its place", code="internal_error")


def stop(connection: Connection, auth: systems.ConnectionAuth, error: ConnectorError, job: SyncJob | None = None) -> ConnectorError:
    """Hold what the error says it covers and return how it stands then: a dead grant or a limit concerns more than one job.

    An account that was connected again since its credentials were read is let be: the job is to try those.
    """
    error = breaker.widened(connection, error)
    if isinstance(error, Disconnected):
        oauth.mark_disconnected(connection, str(error), version=auth.version)
        if not systems.block_refused(connection):
            return Transient("the account was connected again meanwhile", code="reconnected", not_before=timezone.now(), counted=False)
    elif isinstance(error, Transient) and error.not_before is not None and error.scope:
        holds.hold(_scope(connection.pk, error, job), reason=error.code, until=error.not_before)
    return error


def _scope(connection_id: int, error: Transient, job: SyncJob | None) -> str:
    if job is None or error.scope == "connection":
        return f"connection:{connection_id}"
    if error.record:
        return holds.object_scope(job.route_id, kind_of(error.record), error.record)
    return holds.object_scope(job.route_id, job.kind, job.key)


def outcome_of(error: ConnectorError, *, counted: bool) -> Outcome:
    """Return the outcome of a run that failed; `counted` says whether such a run may raise the back-off."""
    outcome = Outcome(_ending(error), code=error.code, words=error.words)
    if isinstance(error, Transient):
        return replace(outcome, not_before=error.not_before, counted=error.counted and counted)
    return outcome


def give_back(attempt: Attempt, why: str = "the run's time was used up before its turn came") -> None:
    """Let a job that was claimed and not reached be due again at once; that counts for nothing."""
    outcome = Outcome(Ending.TRANSIENT, code="budget", not_before=timezone.now(), counted=False)
    ledger.settle(attempt, outcome, message=why)


def _ending(error: ConnectorError) -> Ending:
    if isinstance(error, Transient):
        return Ending.TRANSIENT
    if isinstance(error, Disconnected):
        return Ending.DISCONNECTED
    return Ending.UNMAPPABLE if isinstance(error, Unmappable) else Ending.REJECTED
