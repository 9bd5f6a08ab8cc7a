"""The systems this product knows: one line each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from integrations.core.errors import Misconfigured
from integrations.core.events import Event, Verdict
from integrations.core.ports import Access, Account, Destination, Plan, Shape, Source, System
from integrations.destinations.jira import adapter as jira
from integrations.destinations.zendesk import adapter as zendesk
from integrations.http import Answer, ApiClient
from integrations.sources.wave import adapter as wave
from integrations.sources.wave import webhook


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """A source's folder: its description, how to get in, how to build its adapter."""

    system: System
    access: Access
    unauthorized: Callable[[Answer], bool]
    build: Callable[[ApiClient, Account, str], Source]  # the third is the fallback time zone
    verify: Callable[[Mapping[str, str], bytes, Sequence[str], float, int], Verdict]
    parse: Callable[[bytes], Event | None]
    business: Callable[[Account], str]  # the uuid of the configured business, "" when none is configured


@dataclass(frozen=True, slots=True)
class DestinationEntry:
    """A destination's folder."""

    system: System
    access: Access
    unauthorized: Callable[[Answer], bool]
    build: Callable[[ApiClient, Plan, Shape], Destination]


SOURCES = {
    "wave": SourceEntry(wave.SYSTEM, wave.ACCESS, wave.unauthorized, wave.WaveSource, webhook.verify, webhook.parse, wave.business_of),
}
DESTINATIONS = {
    "zendesk": DestinationEntry(zendesk.SYSTEM, zendesk.ACCESS, zendesk.unauthorized, zendesk.ZendeskDestination),
    "jira": DestinationEntry(jira.SYSTEM, jira.ACCESS, jira.unauthorized, jira.JiraDestination),
}


def entry(system: str) -> SourceEntry | DestinationEntry:
    """Return a system's entry; raise Misconfigured with the known names."""
    found = SOURCES.get(system) or DESTINATIONS.get(system)
    if found is None:
        raise Misconfigured(f'unknown system "{system}": known are {", ".join(sorted([*SOURCES, *DESTINATIONS]))}')
    return found
