"""A clock that stands still while nobody waits: only calls and sleeps take time, so that a run tells the same on any machine."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import requests

from integrations import tasks
from integrations.bench.clock import Clock
from integrations.core.errors import Transient
from integrations.http import Answer, ApiClient

Shift = Callable[[timedelta], object]


@dataclass(slots=True)
class Still(Clock):
    """A clock that goes on only when it is shifted."""

    begun: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        """Return the time, aware and in UTC."""
        return self.begun + self.ahead


@contextmanager
def unhurried(
    shift: Shift, *, latency: float = 0.0, between: Callable[[], object] = lambda: None, silent: Collection[str] = ()
) -> Iterator[None]:
    """Let sleeps, and so many seconds for each call to a vendor, pass on a clock that `shift` moves; nobody waits.

    `between` is called after each call, as other processes would go on meanwhile. Addresses that hold one of `silent`
    answer nothing for as long as a client waits.
    """
    passed, send, ask = [0.0], ApiClient.send, ApiClient._request

    def sleep(seconds: float) -> None:
        passed[0] += seconds
        shift(timedelta(seconds=seconds))

    def sent(client: ApiClient, *args: Any, **more: Any) -> Answer:
        try:
            return send(client, *args, **more)
        finally:
            sleep(latency)
            between()

    def asked(client: ApiClient, method: str, path: str, *args: Any) -> requests.Response:
        if not any(part in client.base_url for part in silent):
            return ask(client, method, path, *args)
        sleep(max(0.0, client.timeout[1] - latency))
        raise Transient(f"{method} {path}: ReadTimeout", code="no_answer")

    began = time.monotonic()
    with ExitStack() as patched:
        patched.enter_context(patch.object(time, "sleep", sleep))
        patched.enter_context(patch.object(time, "monotonic", lambda: began + passed[0]))
        patched.enter_context(patch.object(tasks, "_beaten_at", tasks._beaten_at))  # a time of this clock, which ends here
        patched.enter_context(patch.object(ApiClient, "send", sent))
        patched.enter_context(patch.object(ApiClient, "_request", asked))
        yield
