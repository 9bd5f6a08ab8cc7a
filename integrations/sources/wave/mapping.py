"""Wave's JSON as records, and Wave's ids as uuids and numbers."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from integrations.core.records import (
    CUSTOMER,
    INVOICE,
    PAYMENT,
    Address,
    Business,
    Changed,
    Customer,
    Invoice,
    Money,
    OpenInvoice,
    Payment,
    key_digest,
    record_key,
    shown_digest,
)
from integrations.core.zones import zone_of

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
NUMBER = r"[0-9]{1,40}"
ID_LENGTH = 200  # no id of Wave's is longer
MOST_EXPONENT = 8
# InvoicePayment.amount is text, reported with and without separators of thousands.
AMOUNT = r"[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?"

Node = Mapping[str, Any]


# -- ids -----------------------------------------------------------------------------------------------------------------------------


def node_id(business: str, kind: str = "", number: str = "") -> str:
    """Return the GraphQL id of a business (uuid) or of one of its records; kind is Wave's word, e.g. Invoice."""
    text = f"Business:{business}" + (f";{kind}:{number}" if kind else "")
    return base64.b64encode(text.encode()).decode()


def business_uuid(given: Any) -> str:
    """Return the uuid of a business given by uuid or GraphQL id, lower case; "" for anything else."""
    if not isinstance(given, str):
        return ""
    text = given.strip().lower()
    if re.fullmatch(UUID, text):
        return text
    match = re.fullmatch(f"business:({UUID})", _decoded(given).lower())
    return match[1] if match else ""


def record_number(given: Any, *kinds: str) -> str:
    """Return the number of a record given by number (int or text) or by the GraphQL id of one of the kinds; "" for anything else."""
    if isinstance(given, bool) or not isinstance(given, int | str):
        return ""
    text = given.strip() if isinstance(given, str) else str(given)
    if re.fullmatch(NUMBER, text):
        return text
    match = re.fullmatch(f"Business:{UUID};(?:{'|'.join(kinds)}):({NUMBER})", _decoded(text), re.IGNORECASE)
    return match[1] if match else ""


def _decoded(given: str) -> str:
    """Return what a base64 id says, "" when it is none; padding may be missing."""
    text = given.strip().rstrip("=")
    if len(text) > ID_LENGTH:
        return ""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return ""


def _payment_number(given: str) -> str:
    # Which form payment ids have is not known. Keys fold case, so that another form than a number cannot stand in one.
    return record_number(given, "InvoicePayment", "Payment") or key_digest(given)


# -- values --------------------------------------------------------------------------------------------------------------------------


def money(node: Node) -> Money:
    """Return a Money in major units; `value` has separators and `raw` overflows, so `minorUnitValue` is read."""
    exponent = int(node["currency"]["exponent"])
    minor = Decimal(str(node["minorUnitValue"]).replace(",", ""))
    if not minor.is_finite() or not 0 <= exponent <= MOST_EXPONENT:
        raise ValueError
    return Money(minor.scaleb(-exponent), str(node["currency"]["code"]))


def plain_amount(text: str, exponent: int) -> Decimal:
    """Return a payment's amount, which is text and not Money, with the places of its currency."""
    if not re.fullmatch(AMOUNT, text.strip()):
        raise ValueError
    amount, step = Decimal(text.strip().replace(",", "")), Decimal(1).scaleb(-exponent)
    try:
        rounded = amount.quantize(step)
    except InvalidOperation:
        return amount
    return rounded if rounded == amount else amount


def moment(text: str) -> datetime:
    """Return a DateTime as aware UTC."""
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def day(text: str | None) -> date | None:
    """Return a Date; it is a day in the business's own zone and stays one."""
    return date.fromisoformat(text[:10]) if text else None


def _words(node: Node, name: str) -> str:
    return str(node.get(name) or "").strip()


# -- records -------------------------------------------------------------------------------------------------------------------------


def business(node: Node, uuid: str, fallback_time_zone: str) -> Business:
    """Return the business; its zone is the fallback where Wave has none or one that nobody knows."""
    zone = zone_of(_words(node, "timezone"), fallback_time_zone)
    return Business(uuid=uuid, name=_words(node, "name"), timezone=zone.key, currency=_words(node.get("currency") or {}, "code"))


def customer(node: Node, business: str) -> Customer:
    """Return the customer of a business (uuid)."""
    return Customer(
        key=record_key(business, CUSTOMER, _required_number(node, "Customer")),
        name=_words(node, "name"),
        modified_at=moment(node["modifiedAt"]),
        first_name=_words(node, "firstName"),
        last_name=_words(node, "lastName"),
        display_id=_words(node, "displayId"),
        email=_words(node, "email"),
        phone=_words(node, "phone"),
        mobile=_words(node, "mobile"),
        website=_words(node, "website"),
        currency=_words(node.get("currency") or {}, "code"),
        address=_address(node.get("address") or {}),
        archived=bool(node.get("isArchived")),
        outstanding=money(node["outstandingAmount"]),
        overdue=money(node["overdueAmount"]),
        created_at=moment(node["createdAt"]),
    )


def invoice(node: Node, business: str) -> Invoice:
    """Return the invoice of a business (uuid) with its customer and payments."""
    return replace(listed_invoice(node, business), payments=_payments(node, business))


def listed_invoice(node: Node, business: str) -> Invoice:
    """Return the invoice as lists show it: with its customer, without payments."""
    return Invoice(
        key=record_key(business, INVOICE, _required_number(node, "Invoice")),
        number=_words(node, "invoiceNumber"),
        status=_words(node, "status"),
        customer=customer(node["customer"], business),
        total=money(node["total"]),
        due=money(node["amountDue"]),
        paid=money(node["amountPaid"]),
        issued_on=day(node.get("invoiceDate")),
        due_on=day(node.get("dueDate")),
        modified_at=moment(node["modifiedAt"]),
        created_at=moment(node["createdAt"]),
        title=_words(node, "title"),
        po_number=_words(node, "poNumber"),
        memo=_words(node, "memo"),
        url=_words(node, "viewUrl"),
        pdf_url=_words(node, "pdfUrl"),
    )


def changed_customer(node: Node, business: str) -> Changed:
    """Return a line of the listing of customers."""
    shown = shown_digest(_words(node, "name"), _words(node, "email"), _words(node, "displayId"))
    return Changed(record_key(business, CUSTOMER, _required_number(node, "Customer")), moment(node["modifiedAt"]), shown=shown)


def changed_invoice(node: Node, business: str) -> Changed:
    """Return a line of the listing of invoices."""
    owner = record_key(business, CUSTOMER, _required_number(node["customer"], "Customer"))
    return Changed(record_key(business, INVOICE, _required_number(node, "Invoice")), moment(node["modifiedAt"]), customer=owner)


def changed_record(node: Node, kind: str, business: str) -> Changed:
    """Return a line that tells an id and a time only; kind is our word."""
    return Changed(record_key(business, kind, _required_number(node, kind)), moment(node["modifiedAt"]))


def open_invoice(node: Node) -> OpenInvoice:
    """Return a line of a customer's account."""
    due = money(node["amountDue"])
    return OpenInvoice(number=_words(node, "invoiceNumber"), status=_words(node, "status"), due=due, due_on=day(node.get("dueDate")))


def key_of(node: Node, kind: str, business: str) -> str:
    """Return the key of a record that may be unreadable in all else, "" where its id is too; kind is our word."""
    number = record_number(node.get("id"), kind)
    return record_key(business, kind, number) if number else ""


def _required_number(node: Node, kind: str) -> str:
    number = record_number(node["id"], kind)
    if not number:
        raise ValueError
    return number


def _payments(node: Node, business: str) -> tuple[Payment, ...]:
    """Return the payments that count; a null where money was paid is no list, and must not look like an empty one."""
    found = node.get("payments")
    if found is None and money(node["amountPaid"]).amount:
        raise ValueError
    active = [payment for payment in found or () if payment and payment.get("active") is not False]
    return tuple(_payment(payment, node["currency"], business) for payment in active if payment.get("amount"))


def _payment(node: Node, invoice_currency: Node, business: str) -> Payment:
    # Which words `state` has is not known, so every payment that the API shows as active counts.
    currency = node.get("paymentCurrency") or invoice_currency
    amount = plain_amount(str(node["amount"]), int(currency["exponent"]))
    return Payment(
        key=record_key(business, PAYMENT, _payment_number(str(node["id"]))),
        amount=Money(-abs(amount) if _is_refund(node) else amount, str(currency["code"])),
        paid_on=day(node.get("paymentDate")),
        method=_words(node, "paymentMethod"),
        state=_words(node, "state"),
        memo=_words(node, "memo"),
        created_at=moment(node["createdAt"]),
    )


def _is_refund(node: Node) -> bool:
    return bool(node.get("originInvoicePayment")) or _words(node, "transactionType").upper() == "REFUND"


def _address(node: Node) -> Address:
    # province and country are objects: https://developer.waveapps.com (API reference, Address)
    return Address(
        line1=_words(node, "addressLine1"),
        line2=_words(node, "addressLine2"),
        city=_words(node, "city"),
        province=_words(node.get("province") or {}, "name"),
        postal_code=_words(node, "postalCode"),
        country=_words(node.get("country") or {}, "name"),
    )
