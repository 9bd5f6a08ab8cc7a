"""Whether a customer's money is the same everywhere: at Wave, in its open invoices, and in what each destination shows. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from integrations.core.records import Money

# By route: an amount; None where the remote object shows none; a route that is left out has no such object.
Held = Mapping[str, Decimal | None]


@dataclass(frozen=True, slots=True)
class Due:
    """An invoice: what is due, whether it counts as open, and what is shown as due where."""

    key: str
    due: Money
    open: bool
    held: Held = field(default_factory=dict)

    def differs(self, routes: Iterable[str]) -> bool:
        """Whether some destination shows another amount, or one of these lacks it although it is open."""
        shows_otherwise = any(shown is not None and shown != self.due.amount for shown in self.held.values())
        return shows_otherwise or (self.open and any(route not in self.held for route in routes))


@dataclass(frozen=True, slots=True)
class Account:
    """A customer's money: what Wave says is outstanding, what the customer's remote objects show, and the invoices.

    routes   those that mirror invoices: an open one that is missing there is missing money
    """

    outstanding: Money | None
    held: Held
    invoices: Sequence[Due]
    routes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Sums:
    """What a destination shows: on the customer's own object, and added up over the open invoices; None where nothing is shown."""

    customer: Decimal | None
    invoices: Decimal | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """A customer's money in one currency.

    mixed      more than one currency: sums of the account are not compared, only invoice by invoice
    invoices   keys of the invoices that some destination shows otherwise or lacks
    """

    currency: str
    mixed: bool
    outstanding: Decimal | None
    open_sum: Decimal
    held: Mapping[str, Sums]
    invoices: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether all that is known is the same to the cent."""
        if self.invoices:
            return False
        shown = [] if self.mixed else [self.outstanding, *(sums.customer for sums in self.held.values())]
        shown += [sums.invoices for sums in self.held.values()]
        return all(amount is None or amount == self.open_sum for amount in shown)


def without(account: Account, routes: Collection[str]) -> Account:
    """Return the account as if some routes mirrored nothing of it."""
    if not routes:
        return account
    invoices = [replace(invoice, held=_except(invoice.held, routes)) for invoice in account.invoices]
    return Account(account.outstanding, _except(account.held, routes), invoices, [one for one in account.routes if one not in routes])


def _except(held: Held, routes: Collection[str]) -> Held:
    return {route: amount for route, amount in held.items() if route not in routes}


def agreements(account: Account) -> list[Agreement]:
    """Return one agreement per currency of the account, ordered by its code; amounts of different currencies are never added."""
    currencies = {invoice.due.currency for invoice in account.invoices if invoice.open or invoice.differs(account.routes)}
    own = {account.outstanding.currency} if account.outstanding and (account.outstanding.amount or not currencies) else set()
    found = sorted(currencies | own)
    return [_agreement(account, currency, mixed=len(found) > 1) for currency in found]


def _agreement(account: Account, currency: str, *, mixed: bool) -> Agreement:
    of_currency = [invoice for invoice in account.invoices if invoice.due.currency == currency]
    opened = [invoice for invoice in of_currency if invoice.open]
    own = account.outstanding is not None and account.outstanding.currency == currency
    return Agreement(
        currency=currency,
        mixed=mixed,
        outstanding=account.outstanding.amount if account.outstanding and own else None,
        open_sum=sum((invoice.due.amount for invoice in opened), Decimal(0)),
        held={
            route: Sums(account.held.get(route) if own else None, _sum(opened, route) if route in account.routes else None)
            for route in sorted({*account.held, *account.routes})
        },
        invoices=tuple(invoice.key for invoice in of_currency if invoice.differs(account.routes)),
    )


def _sum(opened: Iterable[Due], route: str) -> Decimal | None:
    shown = [invoice.held[route] for invoice in opened if route in invoice.held]
    known = [amount for amount in shown if amount is not None]
    return sum(known, Decimal(0)) if len(known) == len(shown) else None
