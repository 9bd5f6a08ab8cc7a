"""Zendesk written in bulk: what a job carries, what its end proves, and how it may fail."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import responses

from integrations.core.documents import Bound, Bulk, Document, Written
from integrations.core.errors import Disconnected, Missing, Rejected, Transient
from integrations.core.records import Snapshot
from integrations.destinations.zendesk.adapter import ZendeskDestination
from integrations.destinations.zendesk.bulk import read
from integrations.sandbox.server import Fault, serving
from integrations.sandbox.zendesk import Zendesk
from tests.destinations.test_zendesk_destination import CUSTOMER, INVOICE, PAYMENT, SNAPSHOT, TRACE, Route, organizations, records, users

BASE = "https://acme.zendesk.com"
Item = tuple[Document, Bound]


@pytest.fixture
def account() -> Zendesk:
    return Zendesk()


@pytest.fixture
def route(account: Zendesk) -> Iterator[Route]:
    with serving({"zendesk": account}) as url:
        found = Route(account, f"{url}/zendesk")
        found.destination().provision(dry_run=False)
        account.calls.clear()
        yield found


def prepared(route: Route) -> ZendeskDestination:
    destination = route.destination()
    destination.prepare()
    route.account.calls.clear()
    return destination


def customer_key(number: int) -> str:
    return f"wave:b1:customer:{number}"


def snapshots(count: int) -> list[Snapshot]:
    """Return customers of different names, each with one invoice."""
    found = []
    for number in range(1, count + 1):
        customer = replace(CUSTOMER, key=customer_key(number), name=f"Company {number}", email=f"c{number}@acme.example", display_id="")
        payment = replace(PAYMENT, key=f"wave:b1:payment:{number}")
        invoice = replace(INVOICE, key=f"wave:b1:invoice:{number}", number=f"N-{number}", customer=customer, payments=(payment,))
        found.append(replace(SNAPSHOT, customer=customer, invoice=invoice))
    return found


def new(route: Route, destination: ZendeskDestination, kind: str, count: int) -> list[Item]:
    """Return documents of a kind without remote ids."""
    record = "customer" if kind in ("organization", "user") else "invoice"
    documents = [one for shown in snapshots(count) for one in destination.documents(record, shown, TRACE) if one.kind == kind]
    ready = [replace(one, fields={name: route.resolved(value) for name, value in one.fields.items()}) for one in documents]
    return [(one, Bound()) for one in ready]


def known(route: Route, items: list[Item]) -> list[Item]:
    return [(document, replace(bound, remote_id=route.bound[document.kind, document.key].remote_id)) for document, bound in items]


def bound_from_sight(route: Route, destination: ZendeskDestination, kind: str, keys: list[str]) -> None:
    for key, seen in destination.observe(kind, dict.fromkeys(keys, "")).items():
        route.bound[kind, key] = Bound(seen.remote_id)


def ended(destination: ZendeskDestination, bulk: Bulk) -> Bulk:
    for _ in range(5):
        if bulk.done:
            return bulk
        bulk = destination.follow_bulk(bulk)
    raise AssertionError("the job does not end")


# --- The way through


def test_new_organizations_are_one_job_and_are_told_apart_by_looking(route: Route, account: Zendesk) -> None:
    destination = prepared(route)
    items = new(route, destination, "organization", 100)
    first = destination.start_bulk("organization", items)
    assert (first.done, first.sent, first.written) == (False, {customer_key(n): "" for n in range(1, 101)}, {})
    second = destination.follow_bulk(first)
    assert (second.done, second.progress) == (False, 1)
    third = destination.follow_bulk(second)
    assert (third.done, third.written, third.refused, third.unknown) == (True, {}, {}, frozenset(third.sent))
    job = f"job_statuses/{first.id}"
    assert route.calls() == [("POST", "organizations/create_many", 200), ("GET", job, 200), ("GET", job, 200)]
    seen = destination.observe("organization", dict.fromkeys(third.unknown, ""))
    assert {document.key: destination.drift(document, seen[document.key]) for document, _ in items} == dict.fromkeys(
        first.sent, frozenset()
    )
    assert account.violations == []


def test_changed_organizations_are_one_job_whose_results_prove_each(route: Route, account: Zendesk) -> None:
    destination = prepared(route)
    items = new(route, destination, "organization", 3)
    ended(destination, destination.start_bulk("organization", items))
    bound_from_sight(route, destination, "organization", [document.key for document, _ in items])
    changed = [(replace(document, fields={**document.fields, "details": "new"}), bound) for document, bound in known(route, items)]
    route.calls()
    bulk = ended(destination, destination.start_bulk("organization", changed))
    assert bulk.written == {document.key: Written(bound.remote_id) for document, bound in changed}
    assert (bulk.unknown, {row["details"] for row in organizations(account)}) == (frozenset(), {"new"})
    assert route.calls()[0] == ("PUT", "organizations/update_many", 200)


def test_a_name_that_had_to_be_changed_is_kept_in_bulk(route: Route, account: Zendesk) -> None:
    destination = prepared(route)
    account.add_organization("Acme", "wave:b1:customer:8")
    [written, _] = route.sync("customer")
    [document, _] = destination.documents("customer", SNAPSHOT, TRACE)
    bulk = ended(destination, destination.start_bulk("organization", [(document, Bound(written.remote_id, "", written.facts))]))
    assert (list(bulk.written), [row["name"] for row in organizations(account)]) == ([document.key], ["Acme", "Acme (C-7)"])


def test_records_are_upserted_in_one_job_first_and_last(route: Route, account: Zendesk) -> None:
    destination = prepared(route)
    ended(destination, destination.start_bulk("organization", new(route, destination, "organization", 3)))
    bound_from_sight(route, destination, "organization", [customer_key(number) for number in (1, 2, 3)])
    for kind in ("wave_invoice", "wave_payment"):
        items = new(route, destination, kind, 3)
        made = ended(destination, destination.start_bulk(kind, items))
        assert (made.written, made.unknown) == (dict.fromkeys(made.sent, Written("", created=True)), frozenset())
        bound_from_sight(route, destination, kind, list(made.sent))
        again = ended(destination, destination.start_bulk(kind, known(route, items)))
        assert again.written == {document.key: Written(bound.remote_id) for document, bound in known(route, items)}
    assert [row["external_id"] for row in records(account, "wave_invoice")] == [f"wave:b1:invoice:{number}" for number in (1, 2, 3)]
    assert len(records(account, "wave_payment")) == 3 and account.violations == []


def test_a_record_that_somebody_deleted_is_made_anew_and_not_taken_for_the_old_one(route: Route, account: Zendesk) -> None:
    destination = prepared(route)
    route.sync("customer")
    route.sync("invoice")
    documents = [one for one in destination.documents("invoice", SNAPSHOT, TRACE) if one.kind == "wave_invoice"]
    ready = [replace(one, fields={name: route.resolved(value) for name, value in one.fields.items()}) for one in documents]
    account.delete_record(INVOICE.key)
    bulk = ended(destination, destination.start_bulk("wave_invoice", known(route, [(one, Bound()) for one in ready])))
    assert (dict(bulk.written), set(bulk.unknown)) == ({}, {INVOICE.key})
    assert [row["external_id"] for row in records(account, "wave_invoice")] == [INVOICE.key]


# --- Users


def test_new_users_are_one_job_and_are_finished_one_by_one(route: Route, account: Zendesk) -> None:
    account.bulk_users = True
    destination = prepared(route)
    ended(destination, destination.start_bulk("organization", new(route, destination, "organization", 2)))
    bound_from_sight(route, destination, "organization", [customer_key(1), customer_key(2)])
    bulk = ended(destination, destination.start_bulk("user", new(route, destination, "user", 2)))
    bound_from_sight(route, destination, "user", sorted(bulk.unknown))
    route.calls()
    written = [route.write(destination, document) for document, _ in new(route, destination, "user", 2)]
    assert [one.facts["ours"] for one in written] == [True, True]
    assert [method for method, _, _ in route.calls()] == ["GET", "POST"] * 2
    assert [row["organization_ids"] for row in users(account)] == [
        [int(route.bound["organization", customer_key(number)].remote_id)] for number in (1, 2)
    ]
    assert (account.mails, account.violations) == ([], [])


def test_a_user_of_other_origin_with_the_address_is_not_taken_over(route: Route, account: Zendesk) -> None:
    account.bulk_users = True
    account.add_user("Somebody Else", "c1@acme.example")
    destination = prepared(route)
    bulk = ended(destination, destination.start_bulk("user", new(route, destination, "user", 2)))
    assert (dict(bulk.written), set(bulk.unknown)) == ({}, {customer_key(1), customer_key(2)})
    assert [(row["name"], row["external_id"]) for row in users(account)] == [("Jane Doe", customer_key(2)), ("Somebody Else", None)]
    assert list(destination.observe("user", dict.fromkeys(bulk.unknown, ""))) == [customer_key(2)]


def test_a_user_without_our_key_is_left_alone(route: Route, account: Zendesk) -> None:
    route.sync("customer")
    destination = prepared(route)
    [_, document] = destination.documents("customer", SNAPSHOT, TRACE)
    remote_id = route.bound["user", document.key].remote_id
    account.users.rows[int(remote_id)].name = "Renamed"
    account.users.rows[int(remote_id)].external_id = None
    assert destination.write(document, Bound(remote_id)).facts == {"ours": False}
    assert account.users.rows[int(remote_id)].name == "Renamed"


def test_a_user_that_vanished_after_the_bulk_call_is_made_again(route: Route, account: Zendesk) -> None:
    destination = prepared(route)
    [_, document] = destination.documents("customer", SNAPSHOT, TRACE)
    assert destination.write(document, Bound("999")).facts == {"ours": True}
    assert [row["external_id"] for row in users(account)] == [document.key]


# --- Refusals


def test_users_are_refused_until_zendesk_has_enabled_imports(route: Route) -> None:
    destination = prepared(route)
    with pytest.raises(Rejected) as caught:
        destination.start_bulk("user", new(route, destination, "user", 2))
    assert (caught.value.code, "needs users:read" in caught.value.words) == ("bulk_refused", True)


def test_users_that_are_known_are_not_for_a_bulk_call(route: Route, account: Zendesk) -> None:
    account.bulk_users = True
    destination = prepared(route)
    [(document, _)] = new(route, destination, "user", 1)
    with pytest.raises(ValueError, match="one by one"):
        destination.start_bulk("user", [(document, Bound("1"))])
    assert ("user" in destination.bulk_updates, account.calls) == (False, [])


@pytest.mark.parametrize("kind", ["organization", "wave_invoice"])
def test_an_account_that_may_not_write_in_bulk_says_so(route: Route, account: Zendesk, kind: str) -> None:
    account.bulk = False
    destination = prepared(route)
    items = [(replace(document, fields={"name": "x"}), Bound()) for document, _ in new_unresolved(destination, kind)]
    with pytest.raises(Rejected) as caught:
        destination.start_bulk(kind, items)
    assert caught.value.code == "bulk_refused"


def new_unresolved(destination: ZendeskDestination, kind: str) -> list[Item]:
    documents = destination.documents("customer" if kind == "organization" else "invoice", SNAPSHOT, TRACE)
    return [(one, Bound()) for one in documents if one.kind == kind]


def test_a_whole_call_that_is_refused_for_one_item_is_written_one_by_one(route: Route) -> None:
    destination = prepared(route)
    with pytest.raises(Rejected) as caught:
        destination.start_bulk("organization", new(route, destination, "organization", 101))
    assert caught.value.code == "bulk_failed"


@pytest.mark.parametrize("status", [429, 403, 503, 200])
def test_too_many_jobs_wait_whatever_the_status(route: Route, account: Zendesk, status: int) -> None:
    account.job_limit, account.job_limit_status = 0, status
    destination = prepared(route)
    with pytest.raises(Transient) as caught:
        destination.start_bulk("organization", new(route, destination, "organization", 1))
    assert (caught.value.code, caught.value.unsent, caught.value.not_before is not None) == ("too_many_jobs", True, True)


def test_documents_with_and_without_an_id_do_not_mix(route: Route) -> None:
    destination = prepared(route)
    [one, other] = new(route, destination, "organization", 2)
    for items in ([one, (other[0], Bound("1"))], []):
        with pytest.raises(ValueError, match="remote id"):
            destination.start_bulk("organization", items)


def test_a_dead_grant_is_no_refusal_of_bulk(route: Route, account: Zendesk) -> None:
    destination = prepared(route)
    account.faults.append(Fault("status", path="create_many", status=401, times=0))
    with pytest.raises(Disconnected):
        destination.start_bulk("organization", new(route, destination, "organization", 1))


# --- Doubts


def test_a_create_without_an_answer_is_in_doubt_and_shows_later(route: Route, account: Zendesk) -> None:
    destination = prepared(route)
    account.faults.append(Fault("lost", path="create_many"))
    items = new(route, destination, "organization", 2)
    with pytest.raises(Transient) as caught:
        destination.start_bulk("organization", items)
    assert not caught.value.unsent
    account.job_seconds = 0.0
    wanted = {document.key: "" for document, _ in items}
    assert sorted(destination.observe("organization", wanted)) == [customer_key(1), customer_key(2)]


@pytest.mark.parametrize("kind", ["organization", "wave_invoice"])
def test_what_may_be_sent_twice_is_tried_again_without_an_answer(route: Route, account: Zendesk, kind: str) -> None:
    destination = prepared(route)
    account.faults.append(Fault("lost", path="update_many|jobs"))
    items = [(replace(document, fields={"name": "x"}), Bound("1")) for document, _ in new_unresolved(destination, kind)]
    with pytest.raises(Transient) as caught:
        destination.start_bulk(kind, items)
    assert caught.value.code == "no_answer"


def test_a_partly_failed_job_proves_the_others(route: Route, account: Zendesk) -> None:
    destination = prepared(route)
    items = new(route, destination, "organization", 3)
    ended(destination, destination.start_bulk("organization", items))
    bound_from_sight(route, destination, "organization", [document.key for document, _ in items])
    account.add_organization("Taken", "crm-1")
    ready = known(route, items)
    ready[1] = (replace(ready[1][0], fields={**ready[1][0].fields, "name": "Taken"}), ready[1][1])
    bulk = ended(destination, destination.start_bulk("organization", ready))
    assert (sorted(bulk.written), set(bulk.unknown), dict(bulk.refused)) == ([customer_key(1), customer_key(3)], {customer_key(2)}, {})


def test_a_job_that_broke_off_leaves_all_unknown(route: Route, account: Zendesk) -> None:
    account.jobs_break_after = 1
    destination = prepared(route)
    bulk = ended(destination, destination.start_bulk("organization", new(route, destination, "organization", 3)))
    assert (dict(bulk.written), len(set(bulk.unknown)), len(organizations(account))) == ({}, 3, 1)


def test_a_stuck_job_stays_under_way(route: Route, account: Zendesk) -> None:
    account.jobs_stuck = True
    destination = prepared(route)
    bulk = destination.start_bulk("organization", new(route, destination, "organization", 1))
    for _ in range(4):
        bulk = destination.follow_bulk(bulk)
    assert (bulk.done, bulk.progress, bulk.unknown) == (False, 1, frozenset())


def test_a_vanished_job_is_missing(route: Route, account: Zendesk) -> None:
    destination = prepared(route)
    bulk = destination.start_bulk("organization", new(route, destination, "organization", 1))
    account.jobs.forget()
    with pytest.raises(Missing):
        destination.follow_bulk(bulk)


def test_a_job_is_followed_by_another_run_that_knows_the_bulk_only(route: Route) -> None:
    destination = prepared(route)
    bulk = destination.start_bulk("organization", new(route, destination, "organization", 1))
    assert ended(prepared(route), bulk).unknown == {customer_key(1)}


# --- What a status proves, shape by shape

SENT = {"wave:x": "11", "wave:y": "12"}
FULL = {"wave:x": Written("11"), "wave:y": Written("12")}
UPDATED: dict[str, Any] = {"action": "update", "status": "Updated", "success": True}
CREATED = {"status": "Created", "id": "01A"}
FAILED = {"index": 1, "error": "OrganizationUpdateFailed", "id": 12, "details": "Name:  X has already been taken"}
RESULTS: list[tuple[str, dict[str, str], Any, dict[str, Written]]] = [
    ("organization", SENT, [{**UPDATED, "id": 12}, {**UPDATED, "id": 11}], FULL),
    ("organization", SENT, [{**UPDATED, "id": 11}, FAILED], {"wave:x": Written("11")}),
    ("organization", SENT, [{**UPDATED, "id": 11}], {"wave:x": Written("11")}),
    ("organization", SENT, [{"index": 0, "success": True}, {"index": 1, "success": True}], FULL),
    ("organization", SENT, [{"index": 0, "success": True}, {"index": 1, "success": False}], {}),
    ("organization", SENT, [{**UPDATED, "id": 12}, FAILED], {}),
    ("organization", SENT, {"success": True}, {}),
    ("organization", SENT, None, {}),
    ("organization", SENT, [None, "x", {"id": 99}], {}),
    ("organization", {"wave:x": "", "wave:y": ""}, [{"status": "Created", "id": 5}, {"status": "Created", "id": 6}], {}),
    ("wave_invoice", SENT, [{"success": True}, {"success": True}], {}),
    (
        "wave_invoice",
        {"wave:x": ""},
        [{"status": "Created", "id": "01A", "external_id": "wave:x"}],
        {"wave:x": Written("01A", created=True)},
    ),
    ("wave_invoice", {"wave:x": ""}, [{"status": "Created", "id": "01A", "external_id": "wave:other"}], {}),
    ("wave_invoice", {"wave:x": "11"}, [{"status": "Updated", "id": 11, "external_id": "crm-1"}], {"wave:x": Written("11")}),
]


@pytest.mark.parametrize(("kind", "sent", "results", "written"), RESULTS)
@pytest.mark.parametrize("status", ["completed", "failed", "killed"])
def test_only_what_a_result_names_is_written(
    kind: str, sent: dict[str, str], results: Any, written: dict[str, Written], status: str
) -> None:
    bulk = read(Bulk("V3-1", kind, sent=sent), {"id": "V3-1", "status": status, "progress": 2, "results": results})
    rest = frozenset(sent) - written.keys()
    assert bulk == Bulk("V3-1", kind, done=True, written=written, unknown=rest, progress=2, sent=sent)


@pytest.mark.parametrize("status", ["queued", "working", "a word of next year", None])
def test_a_job_under_way_proves_nothing(status: str | None) -> None:
    bulk = Bulk("V3-1", "organization", sent=SENT)
    assert read(bulk, {"status": status, "progress": None, "results": [{**UPDATED, "id": 11}]}) == bulk


def test_a_job_is_polled_at_our_own_address_whatever_its_url_says() -> None:
    route = Route(Zendesk(), BASE)
    status = {"id": "V3-1/..", "url": "https://pod.example/job", "status": "working", "progress": 1, "results": None}
    with responses.RequestsMock() as net:
        net.post(f"{BASE}/api/v2/organizations/create_many", json={"job_status": {**status, "status": "queued", "progress": None}})
        net.get(f"{BASE}/api/v2/job_statuses/V3-1%2F..", json={"job_status": status})
        destination = route.destination()
        bulk = destination.start_bulk("organization", [(Document("organization", "wave:x", {"name": "A"}), Bound())])
        assert destination.follow_bulk(bulk) == Bulk("V3-1/..", "organization", progress=1, sent={"wave:x": ""})


@pytest.mark.parametrize("body", [{}, {"job_status": {}}, {"job_status": None}])
def test_an_answer_without_a_job_is_none(body: Any) -> None:
    with responses.RequestsMock() as net:
        net.put(f"{BASE}/api/v2/organizations/update_many", json=body)
        with pytest.raises(Transient) as caught:
            Route(Zendesk(), BASE).destination().start_bulk("organization", [(Document("organization", "wave:x", {}), Bound("11"))])
    assert caught.value.code == "bad_answer"
