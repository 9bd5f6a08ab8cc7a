from pathlib import Path

import pytest
from graphql import build_schema, parse, specified_rules, validate

from integrations.sandbox.wave_graphql import SCHEMA, VariablesForStrings
from integrations.sources.wave import queries

CONTRACT = Path(__file__).parents[3] / "shared" / "contracts" / "wave-public.graphql"
CONSTANT = {name: text for name, text in vars(queries).items() if isinstance(text, str) and text.startswith("query ")}
SIZES = [(1, 0), (0, 1), (1, 1), (2, 1), (2, 2), (20, 0), (20, 20)]
DOCUMENTS = CONSTANT | {f"MANY {invoices} {customers}": queries.many(invoices, customers) for invoices, customers in SIZES}


def test_documents_are_found() -> None:
    assert sorted(CONSTANT) == [
        "BUSINESS",
        "BUSINESSES",
        "CHANGED_CUSTOMERS",
        "CHANGED_INVOICES",
        "COUNTS",
        "CUSTOMER",
        "CUSTOMERS_PAGE",
        "INVOICE",
        "INVOICES_PAGE",
        "INVOICE_AND_CUSTOMER",
        "INVOICE_OF_PAYMENT",
        "LISTED_CUSTOMERS",
        "LISTED_INVOICES",
        "OPEN_INVOICES",
        "SWEEP_CUSTOMERS",
        "SWEEP_INVOICES",
        "USER",
    ]


@pytest.mark.skipif(not CONTRACT.exists(), reason="the vendor's schema is not at hand")
def test_documents_fit_the_vendors_schema() -> None:
    vendor = build_schema(CONTRACT.read_text(encoding="utf-8"))
    assert {name: validate(vendor, parse(text)) for name, text in DOCUMENTS.items()} == {name: [] for name in DOCUMENTS}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_document_fits_the_sandbox_and_holds_no_inline_text(name: str) -> None:
    assert validate(SCHEMA, parse(DOCUMENTS[name]), [*specified_rules, VariablesForStrings]) == []
