"""The story of one seed: what happens in Wave, and which deliveries tell of it when."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from django.http import HttpResponseBase
from django.test import Client

from integrations.sandbox.wave_ledger import DRAFTS
from tests.flows.world import WEBHOOK_SECRET, World, key_of
from tests.simulation.people import People
from tests.simulation.stage import Stage, Work

CHANGES = 200
OBJECTS = 0.2  # of so many changes: 40 of 200
LEAST_OBJECTS = 6  # however short the story is: fewer fill no second page, and leave none to delete
LEAST_INVOICES = 3  # are there when one is deleted
LEAST_CUSTOMERS = 2
CUSTOMERS = 0.3  # of the objects; the others are invoices
REDELIVERIES = 5
WORDS = ("Northwind", "Harbour", "Maple", "Juniper", "Quarry", "Lantern", "Orchard", "Pioneer", "Sable", "Tundra")
TRADES = ("Bakery", "Books", "Cycles", "Dairy", "Foundry", "Glass")
METHODS = ("BANK_TRANSFER", "CASH", "CHEQUE", "CREDIT_CARD")


@dataclass(frozen=True, slots=True)
class Step:
    """One sort of change: how often it is drawn, and whether a delivery must tell of it.

    `told`: nothing but a delivery brings it to us, so Wave sends it until we take it, or a reconcile finds it by itself.
    """

    name: str
    weight: float
    told: bool = False


STEPS = (
    Step("add_customer", 0),  # as long as there are too few
    Step("add_invoice", 0),
    Step("change_customer", 3),
    Step("change_invoice", 5),
    Step("change_back", 3),
    Step("approve", 4),
    Step("send", 4),
    Step("view", 3),
    Step("pay", 6),
    Step("refund", 1),
    Step("remove_payment", 2),
    Step("move", 1.5),
    Step("mark_overdue", 1),
    Step("delete_invoice", 0.6, told=True),
    Step("delete_customer", 0.3, told=True),
)
DRAWN = [step.name for step in STEPS if step.weight]
# What happens instead of a change that is not possible yet: it leads there.
BEFORE = {
    "change_invoice": "add_invoice",
    "change_back": "change_customer",
    "approve": "add_invoice",
    "send": "approve",
    "view": "approve",
    "pay": "approve",
    "refund": "pay",
    "remove_payment": "pay",
    "move": "add_invoice",
    "mark_overdue": "approve",
    "delete_invoice": "add_invoice",
    "delete_customer": "add_customer",
}


@dataclass(slots=True)
class Mail:
    """One delivery of Wave's, which sends it again until it is taken."""

    name: str
    body: bytes
    told: bool = False  # sent until it is taken
    tries: int = 0
    taken: bool = False


@dataclass
class Story:
    """Changes Wave's books and sends its deliveries; all that is drawn comes from the stage's randomness."""

    stage: Stage
    world: World
    tells: float = 0.7  # how many of the changes a delivery tells of
    changes: int = CHANGES
    objects: float = OBJECTS
    reconciled: bool = False  # a reconcile at the end finds what nothing else would
    sure: str = ""  # comes as soon as half of the changes are over and it is possible
    customers: list[str] = field(default_factory=list)
    invoices: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    deleted_customers: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)  # of customers, for names that no two of them share
    begun: int = 0
    payments: dict[str, str] = field(default_factory=dict)  # key -> its invoice's key, also of removed ones
    own: Counter[str] = field(default_factory=Counter)  # key -> how often the record itself has changed
    summed: Counter[str] = field(default_factory=Counter)  # customer's key -> and its invoices with it
    mails: list[Mail] = field(default_factory=list)
    closed: bool = False  # the machine is off: nobody answers the door
    remapped: bool = False  # a person has changed what the invoices' records show
    settled: bool = False  # faults are over: what is still to come comes now
    answered: Callable[[Mail, HttpResponseBase], object] = lambda mail, response: None
    _before: dict[str, dict[str, object]] = field(default_factory=dict)
    _clients: dict[str, Client] = field(default_factory=dict)

    # --- Changes

    def change(self) -> None:
        """Let one change happen in Wave, and send what tells of it."""
        self.begun += 1
        name = self._next_step()
        told: tuple[str, str] | None = getattr(self, f"_{name}")()
        while told is None:
            name = BEFORE[name]
            told = getattr(self, f"_{name}")()
        if name == self.sure and self._is_late():
            self.sure = ""
        event, node = told
        self._count(node)
        self.stage.note(f"Wave: {name} {node_name(node)}")
        self.stage.happened[name] += 1
        step = next(step for step in STEPS if step.name == name)
        self._tell(event, node, told=step.told and not self.reconciled)

    def _next_step(self) -> str:
        random, objects = self.stage.random, max(LEAST_OBJECTS, self.objects * self.changes)
        customers, invoices = len(self.customers), len(self.invoices) + len(self.deleted)
        if customers < LEAST_CUSTOMERS or (customers < objects * CUSTOMERS and random.random() < 0.2):
            return "add_customer"
        if self.sure and self._is_late():
            return self.sure
        if len(self.invoices) < 2 or (invoices < objects * (1 - CUSTOMERS) and random.random() < 0.4):
            return "add_invoice"
        return random.choices([step.name for step in STEPS], [step.weight for step in STEPS])[0]

    def _is_late(self) -> bool:
        return self.begun > self.changes / 2

    def _count(self, node: str) -> None:
        key = key_of(node)
        self.own[key] += 1
        if node in self.world.wave.invoices:
            self.summed[key_of(self.world.wave.invoices[node].customer)] += 1
        else:
            self.summed[key] += 1

    def _invoice(self, *, draft: bool = False) -> str:
        """Draw an invoice, one that changed lately more often than others."""
        wave = self.world.wave
        fitting = [node for node in self.invoices if (wave.invoices[node].status in DRAFTS) == draft]
        if not fitting:
            return ""
        return fitting[-1 - int(len(fitting) * self.stage.random.random() ** 2)]

    def _add_customer(self) -> tuple[str, str]:
        random, number = self.stage.random, len(self.numbers)
        name = f"{random.choice(WORDS)} {random.choice(TRADES)} {number}"
        details = {
            "first_name": "Ada",
            "last_name": f"Miller {number}",
            "email": f"ada{number}@customer.example",
            "phone": "+1 416 555 0100",
        }
        self.customers.append(self.world.wave.add_customer(self.world.business, name, **details))
        self.numbers[self.customers[-1]] = number
        return "customer.created", self.customers[-1]

    def _add_invoice(self) -> tuple[str, str]:
        random, number = self.stage.random, len(self.invoices) + len(self.deleted)
        customer = random.choice(self.customers)
        self.invoices.append(self.world.wave.add_invoice(customer, f"INV-{number}", total=self._amount()))
        return "invoice.created", self.invoices[-1]

    def _amount(self) -> str:
        return f"{self.stage.random.randint(20, 900)}.{self.stage.random.choice(('00', '50', '75'))}"

    def _change_customer(self) -> tuple[str, str]:
        node, random = self.stage.random.choice(self.customers), self.stage.random
        changes = random.choice(
            [
                {"name": f"{random.choice(WORDS)} {random.choice(TRADES)} {self.numbers[node]}"},
                {"phone": f"+1 416 555 0{random.randint(100, 199)}"},
                {"website": f"https://{random.choice(WORDS).lower()}.example"},
                {"last_name": f"{random.choice(WORDS)} {self.numbers[node]}"},
            ]
        )
        row = self.world.wave.customers[node]
        self._before[node] = {name: getattr(row, name) for name in changes}
        self.world.wave.change_customer(node, **changes)
        return "customer.updated", node

    def _change_invoice(self) -> tuple[str, str] | None:
        random = self.stage.random
        node = self._invoice(draft=random.random() < 0.4)
        if not node:
            return None
        row = self.world.wave.invoices[node]
        if random.random() < 0.5:
            self._before[node] = {"po_number": row.po_number}
            self.world.wave.change_invoice(node, po_number=f"PO-{random.randint(1, 99)}")
        else:
            self._before[node] = {"total": str(row.total)}
            self.world.wave.change_invoice(node, total=self._amount())
        return "invoice.updated", node

    def _change_back(self) -> tuple[str, str] | None:
        """Undo what was changed last: whoever writes late and remembers wrongly is found out by it."""
        known = [node for node in self._before if node in self.world.wave.invoices or node in self.world.wave.customers]
        if not known:
            return None
        node = self.stage.random.choice(known[-3:])
        changes = self._before.pop(node)
        if node in self.world.wave.invoices:
            row = self.world.wave.invoices[node]
            self._before[node] = {name: str(row.total) if name == "total" else getattr(row, name) for name in changes}
            self.world.wave.change_invoice(node, **changes)
            return "invoice.updated", node
        self._before[node] = {name: getattr(self.world.wave.customers[node], name) for name in changes}
        self.world.wave.change_customer(node, **changes)
        return "customer.updated", node

    def _approve(self) -> tuple[str, str] | None:
        node = self._invoice(draft=True)
        if node:
            self.world.wave.approve(node)
        return ("invoice.approved", node) if node else None

    def _send(self) -> tuple[str, str] | None:
        node = self._invoice()
        if node:
            self.world.wave.send(node)
        return ("invoice.sent", node) if node else None

    def _view(self) -> tuple[str, str] | None:
        node = self._invoice()
        if node:
            self.world.wave.view(node)
        return ("invoice.viewed", node) if node else None

    def _pay(self) -> tuple[str, str] | None:
        node, random = self._invoice(), self.stage.random
        if not node:
            return None
        due = self.world.wave.invoices[node].amount_due
        amount = due if due > 0 and random.random() < 0.5 else Decimal(random.randint(1, 60))
        return self._paid(node, amount)

    def _refund(self) -> tuple[str, str] | None:
        paid = [node for node in self.invoices if self.world.wave.invoices[node].amount_paid > 1]
        return self._paid(self.stage.random.choice(paid), Decimal(-1)) if paid else None

    def _paid(self, node: str, amount: Decimal) -> tuple[str, str]:
        amount = amount.quantize(Decimal("0.01"))
        payment = self.world.wave.pay(node, amount, self.stage.random.choice(METHODS))
        self.payments[key_of(payment)] = key_of(node)
        return self.stage.random.choice(["payment.created", "invoice.paid", "invoice.partially_paid"]), node

    def _remove_payment(self) -> tuple[str, str] | None:
        paid = [node for node in self.invoices if self.world.wave.invoices[node].payments]
        if not paid:
            return None
        node = self.stage.random.choice(paid)
        self.world.wave.remove_payment(self.stage.random.choice(self.world.wave.invoices[node].payments).id)
        return "invoice.updated", node

    def _move(self) -> tuple[str, str] | None:
        node = self._invoice(draft=self.stage.random.random() < 0.5)
        if not node:
            return None
        before = self.world.wave.invoices[node].customer
        self.summed[key_of(before)] += 1
        self.world.wave.change_invoice(node, customer=self.stage.random.choice([one for one in self.customers if one != before]))
        return "invoice.updated", node

    def _mark_overdue(self) -> tuple[str, str] | None:
        node = self._invoice()
        if not node or self.world.wave.invoices[node].amount_due <= 0:
            return None
        self.world.wave.mark_overdue(node)
        return "invoice.overdue", node

    def _delete_invoice(self) -> tuple[str, str] | None:
        if len(self.invoices) < LEAST_INVOICES:
            return None
        return self._deleted(self.stage.random.choice(self.invoices))

    def _deleted(self, node: str) -> tuple[str, str]:
        self.summed[key_of(self.world.wave.invoices[node].customer)] += 1
        self.invoices.remove(node)
        self.deleted.append(node)
        self._before.pop(node, None)
        self.own[key_of(node)] += 1
        self.world.wave.delete_invoice(node)
        return "invoice.updated", node

    def _delete_customer(self) -> tuple[str, str] | None:
        billed = {invoice.customer for invoice in self.world.wave.invoices.values()}
        fitting = [node for node in self.customers if node not in billed]
        if not fitting or len(self.customers) <= LEAST_CUSTOMERS:
            return None
        node = self.stage.random.choice(fitting)
        self.customers.remove(node)
        self.deleted_customers.append(node)
        self._before.pop(node, None)
        self.world.wave.delete_customer(node)
        return "customer.updated", node

    def meddle(self) -> None:
        """Let somebody at a destination edit or delete what is ours."""
        if self.invoices:
            People(self.stage, self.world).meddle(self.invoices, self.customers)

    # --- Deliveries

    def _tell(self, event: str, node: str, *, told: bool) -> None:
        random = self.stage.random
        if not told and random.random() >= self.tells:
            return
        about = {"customer" if event.startswith("customer.") else "invoice": node}
        mail = Mail(f"{event} {node_name(node)}", self.world.wave.event(event, **about), told=told)
        self.mails.append(mail)
        self._later(mail)
        if random.random() < 0.12:
            self._later(mail)  # a duplicate, perhaps before the original

    def _later(self, mail: Mail) -> None:
        random = self.stage.random
        waits = (random.uniform(0, 2), random.uniform(1, 60), random.uniform(60, 1800), random.uniform(3600, 200_000))
        wait = random.choices(waits, (70, 18, 9, 3))[0]
        self.stage.after(wait, lambda: self._send_out(mail, fresh=random.random() < 0.93))

    def _send_out(self, mail: Mail, *, fresh: bool) -> None:
        """Post a delivery; one that is not fresh was signed ten minutes ago."""
        if self.settled and mail.taken:
            return
        mail.tries += 1
        if self.closed:
            self._again(mail)
            return
        wave = self.world.wave
        signed = wave.signed_headers(
            mail.body, WEBHOOK_SECRET, None if fresh else wave.clock().fromtimestamp(wave.clock().timestamp() - 600)
        )
        headers = {"x-wave-signature": signed["x-wave-signature"]}
        self.stage.give("web", Work(f"delivery {mail.name}", lambda: self._post(mail, headers), lambda: self._again(mail)))

    def _post(self, mail: Mail, headers: dict[str, str]) -> None:
        client = self._clients.setdefault(self.stage.running.name, Client(raise_request_exception=False, headers={"host": "localhost"}))
        response = client.post(self.address, data=mail.body, content_type="application/json", headers=headers)
        self.stage.note(f"answered {response.status_code} to delivery {mail.name}")
        self.answered(mail, response)
        if response.status_code == 200:
            mail.taken = True
        else:
            self._again(mail, int(response.headers.get("Retry-After") or 0))

    def _again(self, mail: Mail, wait: int = 0) -> None:
        if mail.tries >= REDELIVERIES and not mail.told:
            return
        seconds = max(wait, min(3600, 20 * 2**mail.tries)) * self.stage.random.uniform(0.8, 1.2)
        self.stage.after(min(seconds, max(wait, 60)) if self.settled else seconds, lambda: self._send_out(mail, fresh=True))

    def send_all(self) -> None:
        """Send at once what must be told and was not taken yet: the faults are over."""
        self.settled = True
        for mail in self.mails:
            if mail.told and not mail.taken:
                self._send_out(mail, fresh=True)

    @property
    def address(self) -> str:
        """The path of our webhook."""
        return self._address

    def settle_in(self) -> None:
        """Learn the address once, while nothing runs."""
        self._address = f"/webhooks/wave/{self.world.connection('wave').uuid}/"


def node_name(node: str) -> str:
    """Return a short name of a record for the log."""
    return key_of(node).split(":", 2)[2]
