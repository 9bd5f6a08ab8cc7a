"""Every event with its payload file: the whole state of all three systems after it, and not one write when nothing changed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import pytest

from integrations.models import Delivery
from tests.flows.expected import Account, Billed, Paid, standing, whole
from tests.flows.world import BUSINESS, NO_WRITES, World, number_of

PAYLOADS = Path(__file__).parents[1] / "payloads"
ADDRESS = {"line1": "12 Front Street", "city": "Toronto", "postal_code": "M5J 2X2", "province": "CA-ON", "country": "CA"}


@dataclass
class Scene:
    """A story under way: its world, and the Wave ids of what has come up so far."""

    world: World
    customer: str = ""
    invoice: str = ""
    payments: list[str] = field(default_factory=list)

    def body(self, name: str) -> bytes:
        """Return the payload file of that name with the story's ids in it."""
        ids = {name: number_of(node) for name, node in (("customer", self.customer), ("invoice", self.invoice)) if node}
        ids |= {"payment": number_of(self.payments[-1])} if self.payments else {}
        text = (PAYLOADS / f"{name}.json").read_text()
        return Template(text).substitute(ids, business=BUSINESS, business_id=self.world.business).encode()

    def sync(self) -> None:
        """Bring the story's state so far to both destinations."""
        events = {"invoice.updated": {"invoice": self.invoice}, "customer.updated": {"customer": self.customer}}
        for event, about in events.items():
            if all(about.values()):
                assert self.world.deliver(event, **about).status_code == 200
        self.world.settle()


Step = Callable[[Scene], None]


def arrives(scene: Scene) -> None:
    scene.customer = scene.world.customer()


def moves(scene: Scene) -> None:
    scene.world.wave.change_customer(scene.customer, phone="+1 416 555 0199", website="northwind.example", address=ADDRESS)


def drafted(scene: Scene) -> None:
    scene.invoice = scene.world.invoice(scene.customer, sent=False)


def drafted_late(scene: Scene) -> None:
    scene.invoice = scene.world.invoice(scene.customer, sent=False, invoice_date="2026-03-20", due_date="2026-04-22")


def approved(scene: Scene) -> None:
    scene.world.wave.approve(scene.invoice)


def sent(scene: Scene) -> None:
    scene.world.wave.send(scene.invoice)


def viewed(scene: Scene) -> None:
    scene.world.wave.view(scene.invoice)


def changed(scene: Scene) -> None:
    scene.world.wave.change_invoice(scene.invoice, total="150.00", po_number="PO-77", due_date="2026-05-20")


def rolled_over(scene: Scene) -> None:
    scene.world.wave.mark_overdue(scene.invoice)


def pays(amount: str, method: str = "BANK_TRANSFER") -> Step:
    def paid(scene: Scene) -> None:
        scene.payments.append(scene.world.wave.pay(scene.invoice, amount, method))

    return paid


@dataclass(frozen=True)
class Story:
    """What both destinations hold before, what changes in Wave, and what must stand in the end."""

    before: Sequence[Step]
    change: Step
    account: Account
    billed: Billed | None = None
    paid: Sequence[tuple[str, str]] = ()

    def expected(self, scene: Scene) -> dict[str, object]:
        """Return the whole of what must stand."""
        payments = tuple(Paid(node, *told) for node, told in zip(scene.payments, self.paid, strict=True))
        invoices = {}
        if self.billed:
            names = {name: getattr(self.billed, name) for name in self.billed.__slots__}
            invoices[scene.invoice] = Billed(**{**names, "payments": payments})
        return whole(scene.customer, self.account, invoices)


OPEN = "INV-1: 120.00 USD, not yet due"
LATE = "INV-1: 120.00 USD, 12 days overdue"
DRAFTED, APPROVED, SENT = (f"2026-05-04 INV-1 {word}: 120.00 USD" for word in ("drafted", "approved", "sent"))
PARTLY = "2026-05-04 INV-1 partly paid: 50.00 of 120.00 USD"
OWES = Account("120.00", open_count=1, open_invoices=(OPEN,), changes=(SENT,))
STORIES = {
    "customer_created": Story([], arrives, Account()),
    "customer_updated": Story(
        [arrives],
        moves,
        Account(phone="+1 416 555 0199", website="northwind.example", address="12 Front Street, M5J 2X2 Toronto, Ontario, Canada"),
    ),
    "invoice_created": Story([arrives], drafted, Account(changes=(DRAFTED,)), Billed("DRAFT", "To Do")),
    "invoice_updated": Story(
        [arrives, drafted, approved, sent],
        changed,
        Account(
            "150.00",
            open_count=1,
            open_invoices=("INV-1: 150.00 USD, not yet due",),
            changes=("2026-05-04 INV-1 sent: 150.00 USD", SENT),
        ),
        Billed("SENT", "In Progress", total="150.00", due="150.00", due_on="2026-05-20", po_number="PO-77"),
    ),
    "payment_created": Story(
        [arrives, drafted, approved, sent],
        pays("50.00", "CASH"),
        Account(
            "70.00",
            open_count=1,
            open_invoices=("INV-1: 70.00 USD, not yet due",),
            changes=(PARTLY, SENT),
            last_payment="2026-05-04: 50.00 USD (CASH)",
        ),
        Billed("PARTIAL", "In Progress", paid="50.00", due="70.00"),
        [("50.00", "CASH")],
    ),
    "invoice_approved": Story(
        [arrives, drafted],
        approved,
        Account("120.00", open_count=1, open_invoices=(OPEN,), changes=(APPROVED, DRAFTED)),
        Billed("SAVED", "To Do"),
    ),
    "invoice_sent": Story(
        [arrives, drafted, approved],
        sent,
        Account("120.00", open_count=1, open_invoices=(OPEN,), changes=(SENT, APPROVED)),
        Billed("SENT", "In Progress"),
    ),
    "invoice_viewed": Story([arrives, drafted, approved, sent], viewed, OWES, Billed("VIEWED", "In Progress")),
    "invoice_paid": Story(
        [arrives, drafted, approved, sent],
        pays("120.00", "CREDIT_CARD"),
        Account(changes=("2026-05-04 INV-1 paid: 120.00 USD", SENT), last_payment="2026-05-04: 120.00 USD (CREDIT_CARD)"),
        Billed("PAID", "Done", paid="120.00", due="0.00"),
        [("120.00", "CREDIT_CARD")],
    ),
    "invoice_partially_paid": Story(
        [arrives, drafted, approved, sent, pays("50.00")],
        pays("30.00", "CHEQUE"),
        Account(
            "40.00",
            open_count=1,
            open_invoices=("INV-1: 40.00 USD, not yet due",),
            changes=("2026-05-04 INV-1 partly paid: 80.00 of 120.00 USD", PARTLY),
            last_payment="2026-05-04: 30.00 USD (CHEQUE)",
        ),
        Billed("PARTIAL", "In Progress", paid="80.00", due="40.00"),
        [("50.00", "BANK_TRANSFER"), ("30.00", "CHEQUE")],
    ),
    "invoice_overpaid": Story(
        [arrives, drafted, approved, sent],
        pays("130.00"),
        Account(changes=("2026-05-04 INV-1 overpaid: 120.00 USD", SENT), last_payment="2026-05-04: 130.00 USD (BANK_TRANSFER)"),
        Billed("OVERPAID", "Done", paid="130.00", due="-10.00"),
        [("130.00", "BANK_TRANSFER")],
    ),
    "invoice_overdue": Story(
        [arrives, drafted_late, approved, sent],
        rolled_over,
        Account(
            "120.00",
            "120.00",
            open_count=1,
            overdue_count=1,
            oldest=12,
            open_invoices=(LATE,),
            changes=("2026-05-04 INV-1 overdue: 120.00 USD", SENT),
        ),
        Billed("OVERDUE", "In Progress", issued_on="2026-03-20", due_on="2026-04-22"),
    ),
}
LEFT_ALONE = {"estimate_accepted": "ignored", "invoice_reminded": "unknown"}


def told(scene: Scene, steps: Sequence[Step]) -> None:
    for step in steps:
        step(scene)
    scene.sync()


@pytest.mark.parametrize("name", STORIES)
def test_a_changed_record_stands_whole_at_both_destinations(world: World, name: str) -> None:
    scene, story = Scene(world), STORIES[name]
    told(scene, story.before)
    story.change(scene)
    books = world.wave.state()
    assert world.post(scene.body(f"{name}__changed")).status_code == 200
    world.settle()
    assert standing(world) == story.expected(scene)
    assert world.wave.state() == books
    outcomes = {(state, came) for _, _, state, came in world.jobs()}
    assert outcomes <= {("succeeded", came) for came in ("created", "updated", "unchanged")}


@pytest.mark.parametrize("name", STORIES)
def test_an_unchanged_record_is_written_nowhere(world: World, name: str) -> None:
    scene, story = Scene(world), STORIES[name]
    told(scene, story.before)
    told(scene, [story.change])
    books = world.wave.state()
    with world.counting() as counted:
        assert world.post(scene.body(f"{name}__unchanged")).status_code == 200
        world.settle()
    assert counted.writes == NO_WRITES
    assert counted.wave == ["POST read"]
    assert standing(world) == story.expected(scene)
    assert world.wave.state() == books


@pytest.mark.parametrize("variant", ["changed", "unchanged"])
@pytest.mark.parametrize("name", LEFT_ALONE)
def test_an_event_that_is_left_alone_is_stored_and_makes_no_call(world: World, name: str, variant: str) -> None:
    scene = Scene(world)
    told(scene, [arrives, drafted, approved, sent])
    if variant == "changed":
        changed(scene)
    with world.counting() as counted:
        assert world.post(scene.body(f"{name}__{variant}")).status_code == 200
        world.settle()
    assert (counted.wave, counted.zendesk, counted.jira) == ([], [], [])
    assert standing(world) == whole(scene.customer, OWES, {scene.invoice: Billed("SENT", "In Progress")})
    assert Delivery.objects.latest("received_at").decision == LEFT_ALONE[name]


def test_a_payment_without_its_invoice_is_found_through_wave(world: World) -> None:
    scene, story = Scene(world), STORIES["payment_created"]
    told(scene, story.before)
    story.change(scene)
    assert world.post(scene.body("payment_created__bare")).status_code == 200
    world.settle()
    assert standing(world) == story.expected(scene)


def test_every_payload_file_is_played() -> None:
    played = {f"{name}__{variant}" for name in [*STORIES, *LEFT_ALONE] for variant in ("changed", "unchanged")}
    assert {path.stem for path in PAYLOADS.glob("*.json")} == played | {"payment_created__bare"}
