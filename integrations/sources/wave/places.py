"""The businesses that a new grant reaches."""

from collections.abc import Callable, Mapping

from integrations.core.ports import Account, Place
from integrations.http import ApiClient
from integrations.sources.wave import mapping
from integrations.sources.wave.client import WaveClient


def places(open_client: Callable[[str], ApiClient], account: Account, urls: Mapping[str, str]) -> list[Place]:
    """Return the businesses, archived ones left out. Raises ConnectorError.

    Another user who grants the same business changes nothing, so none is told.
    """
    found = WaveClient(open_client(urls["WAVE_GRAPHQL_URL"])).businesses()
    return [_place(str(node.get("id")), str(node.get("name") or "")) for node in found if not node.get("isArchived")]


def _place(node: str, name: str) -> Place:
    return Place(mapping.business_uuid(node), name, settings={"business_id": node})
