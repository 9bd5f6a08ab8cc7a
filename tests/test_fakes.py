"""The fake destination keeps the port's promises about many objects, for the spine's tests to lean on."""

import pytest
import requests

from integrations.core.documents import Bound, Document, Link, Observed, Written
from integrations.core.errors import Missing, Rejected, Transient
from integrations.core.ports import Plan
from integrations.http import ApiClient
from tests.fakes import FakeDestination, FakeRemote, Fault


class Nobody:
    """No credentials: nothing is sent."""

    def headers(self) -> dict[str, str]:
        return {}

    def renew(self, stale: dict[str, str]) -> bool:
        return False


@pytest.fixture
def fake() -> FakeDestination:
    client = ApiClient("http://127.0.0.1", Nobody(), requests.Session())
    return FakeDestination(FakeRemote("fake", upsert=True, summarises=True), client, Plan("r", (), {}, ()))


def record(key: str, due: str = "1.00") -> Document:
    return Document("record", key, {"due": due, "organization": Link("organization", "o")})


def test_objects_are_seen_by_id_or_key_and_twins_without_an_id(fake: FakeDestination) -> None:
    remote = fake.remote
    one, two, other = (remote.make("record", key, {"due": "1.00"}) for key in ("a", "a", "b"))
    remote.unseen.add(other)
    seen = fake.observe("record", {"a": "", "b": other, "c": "", "d": "gone"})
    assert seen == {"a": Observed("", twins=(one, two)), "b": Observed(other)}
    assert fake.observe("record", {"a": two}) == {"a": Observed(two, {"due": "1.00"}, "1.00")}  # type: ignore[arg-type]
    assert fake.drift(record("a", "2.00"), fake.observe("record", {"a": two})["a"]) == {"due"}


def test_a_bulk_call_writes_and_tells_what_became_of_each(fake: FakeDestination) -> None:
    fake.remote.faults = [Fault(Rejected("no")), Fault(Transient("lost"), committed=True)]
    fake.remote.bulk_unknown = {"c"}
    bulk = fake.start_bulk("record", [(record(key), Bound()) for key in "abcd"])
    assert ({key: str(error) for key, error in bulk.refused.items()}, set(bulk.unknown)) == ({"a": "no"}, {"b", "c"})
    assert bulk.written == {"d": Written("fake-3", created=True)} and bulk.done
    assert [write.key for write in fake.remote.writes] == ["b", "c", "d"]


def test_a_bulk_call_may_be_refused_or_end_later(fake: FakeDestination) -> None:
    fake.remote.bulk_later = True
    first = fake.start_bulk("record", [(record("a"), Bound())])
    second = fake.follow_bulk(first)
    assert [first.done, second.done, fake.follow_bulk(second).done] == [False, False, True]
    fake.remote.jobs.clear()
    with pytest.raises(Missing):
        fake.follow_bulk(second)
    fake.remote.bulk_refused = True
    with pytest.raises(Rejected) as caught:
        fake.start_bulk("record", [(record("b"), Bound())])
    assert caught.value.code == "bulk_refused"
