"""Compare what is wanted with what a vendor gives back in a form of its own, and read the amount that it shows. Pure."""

import unicodedata
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from integrations.core.documents import Value
from integrations.core.ports import FieldRule

# The template that shows nothing but the money due, by the kind of record it is about.
SHOWS_AMOUNT = {"customer": "{{customer.outstanding}}", "invoice": "{{invoice.due}}", "payment": "{{payment.amount}}"}


def squeezed(template: str) -> str:
    """Return a template without its white space, which is how one that is a single variable is recognised."""
    return "".join(template.split())


def amount_target(rules: Iterable[FieldRule], kind: str) -> str:
    """Return the target of the first rule that shows the amount due and nothing else, "" where none does."""
    return next((rule.target for rule in rules if rule.kind == kind and squeezed(rule.template) == SHOWS_AMOUNT.get(kind)), "")


def number(value: Any) -> Decimal | None:
    """Return a number in whichever form it comes, exactly; None for what is empty or no number."""
    if value is None or isinstance(value, bool):
        return None
    try:
        # The shortest text of a double is what was meant: 100.1, not 100.099999999999994.
        found = Decimal(repr(value) if isinstance(value, float) else str(value).strip())
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def text(value: Any) -> str:
    """Return a value as text without what vendors change on their own: line ends, runs of blanks, composed letters."""
    if value is None:
        return ""
    shown = str(value).lower() if isinstance(value, bool) else f"{value:f}" if isinstance(value, Decimal) else str(value)
    lines = unicodedata.normalize("NFC", shown).splitlines()
    return "\n".join(" ".join(line.split()) for line in lines).strip()


def day(value: Any) -> date | None:
    """Return the day that a date, or a time of whichever form, begins with; None for what is empty or no date."""
    try:
        return date.fromisoformat(str(value).strip()[:10])
    except ValueError:
        return None


def moment(value: Any) -> datetime | None:
    """Return a time as aware UTC, one without a zone being UTC; None for what is empty or no time."""
    try:
        found = datetime.fromisoformat(str(value).strip())
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def same_text(wanted: Value, held: Any) -> bool:
    """Compare as texts; nothing, "" and null are one."""
    return text(wanted) == text(held)


def same_number(wanted: Value, held: Any) -> bool:
    """Compare as exact numbers: 12.5 is "12.50", and a cent is a difference. What is no number is compared as text."""
    one, other = number(wanted), number(held)
    return same_text(wanted, held) if one is None or other is None else one == other


def same_day(wanted: Value, held: Any) -> bool:
    """Compare as days, whatever time of day the vendor adds. What is no date is compared as text."""
    one, other = day(wanted), day(held)
    return same_text(wanted, held) if one is None or other is None else one == other


def same_moment(wanted: Value, held: Any) -> bool:
    """Compare as points in time. What is no time is compared as text."""
    one, other = moment(wanted), moment(held)
    return same_text(wanted, held) if one is None or other is None else one == other
