"""The circuit breaker of a connection: a vendor that is down costs probes, not a call per job, and a slow one not all workers."""

from datetime import timedelta

from django.db.models import F

from audit import holds, ledger, outages
from audit.models import Hold
from integrations.core.errors import ConnectorError, Transient
from integrations.http import Answer
from integrations.models import Connection

OPENS_AT = 5
# A call that waits for nothing costs a worker eight seconds, an error none.
WEIGHT_OF_ERROR, WEIGHT_OF_SILENCE = 1, 2
SLOW_CALL = timedelta(seconds=4)  # of a single write or read; bulk calls may take longer


def is_down(answer: Answer) -> bool:
    """Whether an answer says that nobody is at home: an error of the server's, a proxy's page, or a body cut short."""
    return answer.status >= 500 or (answer.ok and answer.data is None and bool(answer.text))


def failed(connection: Connection, *, weight: int) -> None:
    """Count a call that the vendor did not answer; so many in a row, by all workers, open the breaker."""
    Connection.objects.filter(pk=connection.pk).update(failures=F("failures") + weight)
    connection.refresh_from_db(fields=["failures"])
    if connection.failures >= OPENS_AT:
        outages.begin(scope_of(connection))


def answered(connection: Connection) -> None:
    """Note that the vendor is there: all that waited for it is free. No statement where nothing had failed or was slow."""
    if not connection.failures or outages.is_slow(scope_of(connection)):
        return
    _count(connection, 0)
    if any(holds.lift(scope_of(connection), reason=reason) for reason in outages.REASONS):
        ledger.wake()


def was_slow(connection: Connection) -> None:
    """Note that the vendor is there and let a worker wait so long: one at a time does so from now on."""
    _count(connection, 1)  # so that a later answer, in any process, looks whether it still is
    outages.slow_down(scope_of(connection))


def _count(connection: Connection, failures: int) -> None:
    connection.failures = failures
    Connection.objects.filter(pk=connection.pk).update(failures=failures)


def widened(connection: Connection, error: ConnectorError) -> ConnectorError:
    """Return the error of a call as one of the whole account where it has opened the breaker, or was a probe in vain."""
    if not isinstance(error, Transient) or connection.failures < OPENS_AT:
        return error
    until = Hold.objects.filter(scope=scope_of(connection), reason=outages.REASON).values_list("until", flat=True).first()
    if until is None:
        return error
    not_before = max(until, error.not_before or until)
    return _as(error, scope="connection", not_before=not_before, counted=error.counted)


def for_siblings(error: ConnectorError) -> ConnectorError:
    """Return what an account's error means for a job that was not tried because of it: it spends no try."""
    if isinstance(error, Transient):
        return _as(error, scope=error.scope, not_before=error.not_before, counted=False)
    return error


def _as(error: Transient, **values: object) -> Transient:
    return Transient(str(error), code=error.code, words=error.words, unsent=error.unsent, **values)  # type: ignore[arg-type]


def scope_of(connection: Connection) -> str:
    """Return what the connection's holds go by."""
    return f"connection:{connection.pk}"
