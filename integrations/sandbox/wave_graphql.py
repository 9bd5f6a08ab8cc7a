"""Wave's GraphQL API over the sandbox's books: the schema, what is refused, and the answers."""

import functools
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar, cast

from graphql import (
    ArgumentNode,
    DocumentNode,
    FieldNode,
    GraphQLEnumType,
    GraphQLError,
    GraphQLResolveInfo,
    GraphQLScalarType,
    GraphQLSchema,
    Node,
    OperationDefinitionNode,
    StringValueNode,
    ValidationRule,
    build_schema,
    execute_sync,
    parse,
    specified_rules,
    validate,
)

from integrations.sandbox.wave_ledger import Address, Business, Customer, Invoice, Item, Ledger, Payment, node_id
from integrations.sandbox.wave_money import amount_text, currency, money

T = TypeVar("T")
MAX_PAGE_SIZE = 200
Info = GraphQLResolveInfo[Any]
Answer = dict[str, Any]
Tree = dict[str, Any]
Sorter = Callable[[Any], Any]

USER: Tree = {
    "id": "VXNlcjpzYW5kYm94",
    "defaultEmail": "owner@sandbox.example",
    "firstName": "Sandbox",
    "lastName": "Owner",
    "createdAt": datetime(2025, 1, 1, tzinfo=UTC),
    "modifiedAt": datetime(2025, 1, 1, tzinfo=UTC),
}

# Enough names for a story; every other place is told by its code.
COUNTRIES = {
    "US": "United States",
    "CA": "Canada",
    "GB": "United Kingdom",
    "AU": "Australia",
    "DE": "Germany",
    "FR": "France",
    "JP": "Japan",
}
PROVINCES = {
    "US-CA": "California",
    "US-NY": "New York",
    "US-TX": "Texas",
    "CA-ON": "Ontario",
    "CA-QC": "Quebec",
    "CA-BC": "British Columbia",
}

CUSTOMER_SORTS: Mapping[str, Sorter] = {
    "CREATED_AT": lambda row: row.created_at,
    "MODIFIED_AT": lambda row: row.modified_at,
    "NAME": lambda row: row.name.casefold(),
}

INVOICE_SORTS: Mapping[str, Sorter] = {
    "AMOUNT_DUE": lambda row: row.amount_due,
    "AMOUNT_PAID": lambda row: row.amount_paid,
    "CREATED_AT": lambda row: row.created_at,
    "DUE_AT": lambda row: row.due_date,
    "INVOICE_DATE": lambda row: row.invoice_date,
    "INVOICE_NUMBER": lambda row: row.invoice_number,
    "MODIFIED_AT": lambda row: row.modified_at,
    "STATUS": lambda row: row.status,
    "TOTAL": lambda row: row.total,
}


class VariablesForStrings(ValidationRule):
    """Refuse inline strings as arguments, as Wave does: https://developer.waveapps.com (API reference)."""

    def enter_string_value(
        self, node: StringValueNode, _key: Any, parent: Node | None, _path: Any, ancestors: Sequence[Node | Sequence[Node]]
    ) -> None:
        """Report a string that stands inside an argument."""
        if any(isinstance(holder, ArgumentNode) for holder in (parent, *ancestors)):
            self.report_error(GraphQLError("String arguments must be passed as variables.", node))


def failure(code: str, message: str, error: GraphQLError | None = None) -> Answer:
    """Return one member of `errors` as Wave writes it; an id for the support desk is part of it."""
    told = {name: value for name, value in (error.formatted if error else {}).items() if name in ("locations", "path")}
    return {"message": message, **told, "extensions": {"id": str(uuid.uuid4()), "code": code}}


def refusal(code: str, message: str) -> Answer:
    """Return a whole answer that holds nothing but one error; useful as the body of a fault too."""
    return {"errors": [failure(code, message)], "data": None}


def answer(query: str, variables: Mapping[str, Any], operation: str | None, allowed: Callable[[], "View | None"]) -> Answer:
    """Run a document. It is validated first; only then `allowed` says what the token may see (None: it is no good)."""
    try:
        document, errors = _checked(query)
    except GraphQLError as error:
        return {"errors": [failure("GRAPHQL_VALIDATION_FAILED", error.message, error)]}
    if errors:
        return {"errors": [failure("GRAPHQL_VALIDATION_FAILED", error.message, error) for error in errors]}
    view = allowed()
    if view is None and not _is_introspection(document):
        return refusal("UNAUTHENTICATED", "The access token is missing, has expired or was revoked.")
    result = execute_sync(SCHEMA, document, view.root() if view else {}, None, dict(variables), operation)
    told = {"errors": [_told(error) for error in result.errors]} if result.errors else {}
    return told | {"data": result.data}


@functools.lru_cache(maxsize=64)
def _checked(query: str) -> tuple[DocumentNode, list[GraphQLError]]:
    """Return a document and what is wrong with it; a client sends the same few again and again."""
    document = parse(query)
    return document, validate(SCHEMA, document, [*specified_rules, VariablesForStrings])


class View:
    """The books as one token sees them; `business` is a GraphQL id, or empty for all businesses of the user."""

    def __init__(self, ledger: Ledger, business: str = "") -> None:
        self.ledger = ledger
        self.only = business

    def root(self) -> Tree:
        """Return the value of Query."""
        return {"user": USER, "business": self._business, "businesses": self._businesses}

    def _visible(self) -> list[Business]:
        return [row for row in self.ledger.businesses.values() if self.only in ("", row.id)]

    def _business(self, info: Info, **args: Any) -> Tree | None:
        visible = self._visible()
        if args.get("id") is None:
            return self.business(visible[0]) if visible else None
        return self.business(_one(visible, args["id"]))

    def _businesses(self, info: Info, **args: Any) -> Tree:
        rows = [row for row in self._visible() if args.get("isArchived") in (None, row.is_archived)]
        return _page(rows, args, 10, self.business)

    def business(self, row: Business) -> Tree:
        """Return one Business with its lists and its single records."""
        own = {"currency": currency(row.currency), "emailSendEnabled": True, "isPersonal": False}
        return _scalars(row) | own | self._lists(row)

    def _lists(self, row: Business) -> Tree:
        customers = [held for held in self.ledger.customers.values() if held.business == row.uuid]
        invoices = [held for held in self.ledger.invoices.values() if held.business == row.uuid]
        return {
            "customer": lambda info, id: self.customer(_one(customers, id)),
            "customers": lambda info, **args: _page(_customers(customers, args), args, 45, self.customer),
            "invoice": lambda info, id: self.invoice(_one(invoices, id)) | {"payments": self._payments(_one(invoices, id))},
            "invoices": lambda info, **args: _page(self._filtered(invoices, args), args, 45, self.invoice),
            "invoicePayment": lambda info, id: self._payment(invoices, id),
        }

    def _filtered(self, rows: Iterable[Invoice], args: Tree) -> list[Invoice]:
        by_name = {"CUSTOMER_NAME": lambda row: self.ledger.customers[row.customer].name.casefold()}
        return _sorted([row for row in rows if _matches(row, args)], args["sort"], {**INVOICE_SORTS, **by_name})

    def customer(self, row: Customer) -> Tree:
        """Return one Customer with balances."""
        code = self.ledger.customer_currency(row.id)
        return _scalars(row) | {
            "internalId": row.number,
            "business": lambda info: self._owner(row),
            "currency": currency(row.currency) if row.currency else None,
            "address": _address(row.address) if row.address else None,
            "outstandingAmount": money(self.ledger.outstanding(row.id), code),
            "overdueAmount": money(self.ledger.overdue(row.id), code),
        }

    def invoice(self, row: Invoice) -> Tree:
        """Return one Invoice as lists show it, `payments` null: Wave fills them only where one invoice is asked for."""
        sums = {"subtotal": row.subtotal, "taxTotal": row.tax_total, "discountTotal": row.discount_total, "total": row.total}
        sums |= {"amountDue": row.amount_due, "amountPaid": row.amount_paid}
        return (
            _scalars(row)
            | {name: money(value, row.currency) for name, value in sums.items()}
            | {
                "internalId": row.number,
                "business": lambda info: self._owner(row),
                "customer": lambda info: self.customer(self.ledger.customers[row.customer]),
                "currency": currency(row.currency),
                "items": [_item(row, place, item) for place, item in enumerate(row.items)],
                "payments": None,
                "viewUrl": f"https://wave.example/invoices/{row.number}",
                "pdfUrl": f"https://wave.example/invoices/{row.number}.pdf",
            }
        )

    def payment(self, invoice: Invoice, row: Payment) -> Tree:
        """Return one InvoicePayment; its amount is a plain string, not Money."""
        paid_in, own = currency(invoice.currency), self.ledger.businesses[node_id(invoice.business)].currency
        return _scalars(row) | {
            "active": True,
            "amount": amount_text(row.amount, invoice.currency),
            "business": lambda info: self._owner(invoice),
            "customer": lambda info: self.customer(self.ledger.customers[invoice.customer]),
            "invoice": lambda info: self.invoice(invoice),
            "exchangeRate": invoice.exchange_rate,
            "invoiceCurrency": paid_in,
            "paymentCurrency": paid_in,
            "businessCurrency": currency(own),
            "origin": "MANUAL",
            "transactionType": "PAYMENT",
        }

    def _payments(self, invoice: Invoice) -> list[Tree]:
        return [self.payment(invoice, payment) for payment in invoice.payments]

    def _payment(self, invoices: Iterable[Invoice], payment: str) -> Tree:
        pairs = [(invoice, held) for invoice in invoices for held in invoice.payments if held.id == payment]
        if not pairs:
            raise _not_found()
        return self.payment(*pairs[0])

    def _owner(self, row: Customer | Invoice) -> Tree:
        return self.business(self.ledger.businesses[node_id(row.business)])


def _not_found() -> GraphQLError:
    return GraphQLError("Node could not be found.", extensions={"code": "NOT_FOUND"})


def _one(rows: Iterable[Any], wanted: str) -> Any:
    for row in rows:
        if row.id == wanted:
            return row
    raise _not_found()


def _page(rows: Sequence[Any], args: Tree, default: int, tree: Callable[[Any], Tree]) -> Tree:
    page = 1 if args.get("page") is None else args["page"]
    size = default if args.get("pageSize") is None else args["pageSize"]
    if page < 1 or size < 1:
        raise GraphQLError("page and pageSize must be positive.", extensions={"code": "BAD_USER_INPUT"})
    size = min(size, MAX_PAGE_SIZE)
    shown = rows[(page - 1) * size : page * size]
    info = {"currentPage": page, "totalPages": -(-len(rows) // size), "totalCount": len(rows)}
    return {"pageInfo": info, "edges": [{"node": tree(row)} for row in shown]}


def _sorted(rows: list[Any], names: Sequence[str], sorters: Mapping[str, Sorter]) -> list[Any]:
    for name in reversed(names):
        word, _, direction = name.rpartition("_")
        rows = sorted(rows, key=sorters[word], reverse=direction == "DESC")
    return rows


def _customers(rows: Iterable[Customer], args: Tree) -> list[Customer]:
    email = args.get("email")
    chosen = [row for row in rows if email in (None, row.email) and _modified_within(row, args)]
    return _sorted(chosen, args["sort"], CUSTOMER_SORTS)


def _matches(row: Invoice, args: Tree) -> bool:
    exact = {"status": row.status, "customerId": row.customer, "currency": row.currency, "amountDue": row.amount_due, "sourceId": ""}
    start, end, number = args.get("invoiceDateStart"), args.get("invoiceDateEnd"), args.get("invoiceNumber")
    return (
        all(args.get(name) in (None, value) for name, value in exact.items())
        and (start is None or row.invoice_date >= start)
        and (end is None or row.invoice_date <= end)
        and (number is None or number in row.invoice_number)
        and _modified_within(row, args)
    )


def _modified_within(row: Customer | Invoice, args: Tree) -> bool:
    # Whether Wave's bounds are inclusive is not known; exclusive is the one that loses records of a careless client.
    after, before = args.get("modifiedAtAfter"), args.get("modifiedAtBefore")
    return (after is None or row.modified_at > after) and (before is None or row.modified_at < before)


def _scalars(row: Business | Customer | Invoice | Payment) -> Tree:
    return {_camel(part.name): getattr(row, part.name) for part in fields(row)}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _address(row: Address) -> Tree:
    return {
        "addressLine1": row.line1,
        "addressLine2": row.line2,
        "city": row.city,
        "postalCode": row.postal_code,
        "province": _named(row.province, PROVINCES),
        "country": _named(row.country, COUNTRIES),
    }


def _named(code: str | None, names: Mapping[str, str]) -> Tree | None:
    if code is None:
        return None
    name = names.get(code, code)
    return {"code": code, "name": name, "nameWithArticle": f"the {name}" if name.startswith("United") else name}


def _item(invoice: Invoice, place: int, item: Item) -> Tree:
    number = f"{invoice.number}{place:03}"
    return {
        "id": node_id(invoice.business, "InvoiceItem", number),
        "description": item.description,
        "product": {"id": node_id(invoice.business, "Product", number), "name": item.product},
        "quantity": item.quantity,
        "price": item.unit_price,
        "unitPrice": item.unit_price,
        "subtotal": money(item.subtotal, invoice.currency),
        "total": money(item.subtotal, invoice.currency),
    }


def _is_introspection(document: DocumentNode) -> bool:
    operations = [part for part in document.definitions if isinstance(part, OperationDefinitionNode)]
    asked = [part for operation in operations for part in operation.selection_set.selections]
    return all(isinstance(part, FieldNode) and part.name.value.startswith("__") for part in asked)


def _told(error: GraphQLError) -> Answer:
    code = (error.extensions or {}).get("code")
    if code is not None:
        return failure(str(code), error.message, error)
    if error.path is None:  # it never came to a field: the variables did not fit
        return failure("BAD_USER_INPUT", error.message, error)
    return failure("INTERNAL_SERVER_ERROR", "Internal server error", error)


def _write_time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read_time(value: Any) -> datetime:
    moment = _read(datetime.fromisoformat, value, "an ISO-8601 time")
    if moment.tzinfo is None:
        raise GraphQLError("DateTime needs a time zone.")
    return moment


def _read_date(value: Any) -> date:
    return _read(date.fromisoformat, value, "an ISO-8601 date")


def _read_decimal(value: Any) -> Decimal:
    return _read(Decimal, str(value), "a decimal number")


def _read(reader: Callable[[str], T], value: Any, wanted: str) -> T:
    try:
        return reader(value)
    except (TypeError, ValueError, InvalidOperation) as error:
        raise GraphQLError(f"The value is not {wanted}.") from error


def _schema() -> GraphQLSchema:
    schema = build_schema((Path(__file__).parent / "wave.graphql").read_text(encoding="utf-8"))
    _scalar(schema, "DateTime", _write_time, _read_time)
    _scalar(schema, "Date", date.isoformat, _read_date)
    _scalar(schema, "Decimal", "{:f}".format, _read_decimal)
    # Wave's enums have grown before (OVERPAID), so the stand-in can tell a status that its own schema does not know.
    status = cast(GraphQLEnumType, schema.type_map["InvoiceStatus"])
    status.coerce_output_value = str  # type: ignore[method-assign, assignment]
    return schema


def _scalar(schema: GraphQLSchema, name: str, write: Callable[[Any], str], read: Callable[[Any], Any]) -> None:
    scalar = cast(GraphQLScalarType, schema.type_map[name])
    scalar.coerce_output_value = write
    scalar.coerce_input_value = read


SCHEMA = _schema()
