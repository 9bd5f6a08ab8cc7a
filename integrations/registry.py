"""The systems this product knows: one line each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from integrations.core.errors import Misconfigured
from integrations.core.events import Event, Verdict
from integrations.core.hooks import Hint, Keeper, Remote, Wish
from integrations.core.ports import Access, Account, Consent, Destination, Place, Plan, Shape, Source, System
from integrations.destinations.jira import adapter as jira
from integrations.destinations.jira import rates as jira_rates
from integrations.destinations.jira import webhook as jira_webhook
from integrations.destinations.zendesk import adapter as zendesk
from integrations.destinations.zendesk import rates as zendesk_rates
from integrations.http import Answer, ApiClient
from integrations.rates import Rates
from integrations.sources.wave import adapter as wave
from integrations.sources.wave import rates as wave_rates
from integrations.sources.wave import webhook

# The places that a new grant reaches; the first opens a client, with the new token, for an address.
Places = Callable[[Callable[[str], ApiClient], Account, Mapping[str, str]], list[Place]]


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
    consent: Consent  # of the way in called oauth
    places: Places
    sign: Callable[[bytes, str, float], dict[str, str]]  # a body with a secret, at a Unix time: the headers
    sample: Callable[[str, str], bytes]  # business and event id: a delivery that says nothing
    rates: Rates | None = None


@dataclass(frozen=True, slots=True)
class Hooks:
    """How a destination's own webhooks work; all but `keeper` are pure and never raise, whatever arrives.

    auths       the ways in that can register webhooks by themselves
    wish        what should be registered at an address for routes with these options; None when nothing should
    same        whether a listed webhook is what is wished for
    verify      from account, its secrets, webhook secrets, headers, raw body
    identifier  what a delivery is known by, "" where the headers do not say
    essence     the part of a raw body that `parse` reads: only that is stored, for a body names people
    kinds       of documents that an object id may stand for
    """

    auths: frozenset[str]
    keeper: Callable[[ApiClient], Keeper]
    wish: Callable[[str, Sequence[Mapping[str, Any]]], Wish | None]
    same: Callable[[Wish, Remote], bool]
    verify: Callable[[Account, Mapping[str, Any], Sequence[str], Mapping[str, str], bytes], Verdict]
    identifier: Callable[[Mapping[str, str]], str]
    parse: Callable[[bytes], Hint | None]
    essence: Callable[[bytes], bytes]
    kinds: frozenset[str]


@dataclass(frozen=True, slots=True)
class DestinationEntry:
    """A destination's folder; `hooks` where it tells of changes that people make there."""

    system: System
    access: Access
    unauthorized: Callable[[Answer], bool]
    build: Callable[[ApiClient, Plan, Shape], Destination]
    consent: Consent
    places: Places
    hooks: Hooks | None = None
    rates: Rates | None = None


SOURCES = {
    "wave": SourceEntry(
        wave.SYSTEM,
        wave.ACCESS,
        wave.unauthorized,
        wave.WaveSource,
        webhook.verify,
        webhook.parse,
        wave.business_of,
        wave.CONSENT,
        wave.places,
        webhook.sign,
        webhook.sample,
        wave_rates.RATES,
    ),
}
DESTINATIONS = {
    "zendesk": DestinationEntry(
        zendesk.SYSTEM,
        zendesk.ACCESS,
        zendesk.unauthorized,
        zendesk.ZendeskDestination,
        zendesk.CONSENT,
        zendesk.places,
        rates=zendesk_rates.RATES,
    ),
    "jira": DestinationEntry(
        jira.SYSTEM,
        jira.ACCESS,
        jira.unauthorized,
        jira.JiraDestination,
        jira.CONSENT,
        jira.places,
        Hooks(
            auths=frozenset({"oauth"}),
            keeper=jira_webhook.JiraWebhooks,
            wish=jira_webhook.wish,
            same=jira_webhook.same,
            verify=jira_webhook.verify,
            identifier=jira_webhook.identifier,
            parse=jira_webhook.parse,
            essence=jira_webhook.essence,
            kinds=jira_webhook.KINDS,
        ),
        jira_rates.RATES,
    ),
}


def entry(system: str) -> SourceEntry | DestinationEntry:
    """Return a system's entry; raise Misconfigured with the known names."""
    found = SOURCES.get(system) or DESTINATIONS.get(system)
    if found is None:
        raise Misconfigured(f'unknown system "{system}": known are {", ".join(sorted([*SOURCES, *DESTINATIONS]))}')
    return found


def takes_webhooks(system: str) -> bool:
    """Whether accounts of this system send us webhooks: every source does, and destinations that have hooks."""
    return system in SOURCES or (system in DESTINATIONS and DESTINATIONS[system].hooks is not None)
