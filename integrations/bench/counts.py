"""Calls as the call economy counts them: reads of the source, writes at each destination, and reads there."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from integrations.bench.site import Site
from integrations.sandbox.server import Call

ASKING = ("search", "oauth", "bulkfetch", "show_many")  # POSTs and the like that change nothing


@dataclass(frozen=True, slots=True)
class Calls:
    """Numbers of calls; `looked` are reads at both destinations together."""

    wave: int = 0
    zendesk: int = 0
    jira: int = 0
    looked: int = 0

    def within(self, most: "Calls") -> bool:
        """Whether nothing is above those."""
        return all(getattr(self, name) <= getattr(most, name) for name in self.__slots__)

    def cells(self) -> tuple[int, ...]:
        """Return the four numbers in the order of COLUMNS."""
        return (self.wave, self.zendesk, self.jira, self.looked)


COLUMNS = ("Wave reads", "Zendesk writes", "Jira writes", "looked up")


def since(site: Site, mark: dict[str, int]) -> Calls:
    """Count the calls since a mark."""
    zendesk, jira = site.since(mark, "zendesk"), site.since(mark, "jira")
    looked = [call for call in (*zendesk, *jira) if not is_write(call) and "oauth" not in call.path]
    return Calls(len(site.since(mark, "wave")), len(writes(zendesk)), len(writes(jira)), len(looked))


def writes(calls: Iterable[Call]) -> list[Call]:
    """Return the calls that changed something."""
    return [call for call in calls if is_write(call)]


def is_write(call: Call) -> bool:
    """Whether a call changes something at its vendor."""
    return call.method != "GET" and not any(word in call.path for word in ASKING)


def by_object(calls: Iterable[Call]) -> Counter[str]:
    """Count the writes of each remote object by its path and query."""
    return Counter(f"{call.path}?{call.query}" for call in writes(calls))
