"""Renews access tokens before they end, so that no call has to meet a 401 first."""

import logging
import time
from collections import Counter
from datetime import datetime, timedelta

from django.utils import timezone

from integrations import oauth, systems
from integrations.core.errors import Disconnected, Transient
from integrations.models import Connection, Credential
from integrations.models.secrets import WrongKeyError

log = logging.getLogger(__name__)

AHEAD_LEAST = timedelta(minutes=5)
AHEAD_PART = 0.1  # of a token's life
AHEAD_MOST_PART = 0.5  # a token that lives a few minutes would else be renewed all the time


def refresh_due(*, budget: float, now: datetime | None = None) -> Counter[str]:
    """Renew the tokens that end soon; return how many were renewed, refused, left for later.

    `budget` is in seconds; what it does not suffice for is due a minute later. A refusal blocks the account's jobs,
    as it does behind a 401. Running it in several places at once asks each token endpoint once.
    """
    end = time.monotonic() + budget
    done: Counter[str] = Counter()
    for pk, version in _due(now or timezone.now()):
        if time.monotonic() >= end:
            break
        done.update(_refresh(pk, version))
    return done


def _due(now: datetime) -> list[tuple[int, int]]:
    """Return (primary key, version) of credentials whose token ends soon, the first to end first."""
    usable = Credential.objects.filter(connections__isnull=False).exclude(connections__status=Connection.Status.NEEDS_RECONNECT)
    rows = usable.filter(expires_at__isnull=False).distinct().order_by("expires_at")
    known = rows.values_list("pk", "version", "expires_at", "changed_at")
    return [(pk, version) for pk, version, expires_at, changed_at in known if expires_at and ends_soon(expires_at, changed_at, now=now)]


def ends_soon(expires_at: datetime, got_at: datetime, *, now: datetime) -> bool:
    """Whether a token is to be renewed: 5 minutes before its end, or a tenth of its life where that is more."""
    return now >= renew_at(expires_at, got_at)


def renew_at(expires_at: datetime, got_at: datetime) -> datetime:
    """Return when a token is to be renewed."""
    life = max(expires_at - got_at, timedelta())
    return expires_at - min(max(AHEAD_LEAST, life * AHEAD_PART), life * AHEAD_MOST_PART)


def _refresh(credential_id: int, version: int) -> list[str]:
    """Renew one token; return what came of it, nothing where there was nothing to do."""
    connection = Connection.objects.filter(credential_id=credential_id).order_by("pk").first()
    if connection is None:
        return []
    try:
        if oauth.token_call(connection) is None:
            return []  # a person has to do it, and a 401 will say so
        oauth.refreshed(connection.pk, version)
    except Transient as error:
        log.warning("the token of %s could not be renewed yet: %s", connection.slug, error)
        return ["later"]
    except Disconnected as error:
        log.warning("%s needs reconnecting: %s", connection.slug, error)
        systems.block_refused(connection)
        return ["refused"]
    except WrongKeyError as error:  # one unreadable row must not keep the other accounts from their tokens
        log.error("%s: %s", connection.slug, error)
        return ["unreadable"]
    return ["renewed"]
