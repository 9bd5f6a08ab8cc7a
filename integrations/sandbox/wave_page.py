"""One plain page that shows what the stand-in for Wave holds."""

from html import escape

from integrations.sandbox.wave_ledger import Customer, Invoice, Ledger
from integrations.sandbox.wave_money import amount_text, money

STYLE = """body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1c2433 }
table { border-collapse: collapse; width: 100%; margin-bottom: 2rem }
th, td { border-bottom: 1px solid #d5dbe5; padding: .4rem .6rem; text-align: left; vertical-align: top }
td.sum, th.sum { text-align: right; font-variant-numeric: tabular-nums }"""

CUSTOMER_HEAD = ("Customer", "E-mail", "Phone", "Outstanding", "Overdue")
INVOICE_HEAD = ("Invoice", "Customer", "Status", "Due date", "Payments", "Total", "Amount due")


def page(ledger: Ledger) -> str:
    """Return the page as HTML: each business with its customers and invoices."""
    parts = []
    for business in ledger.businesses.values():
        customers = [row for row in ledger.customers.values() if row.business == business.uuid]
        invoices = [row for row in ledger.invoices.values() if row.business == business.uuid]
        parts.append(f"<h2>{escape(business.name)}</h2><p>{escape(business.timezone or 'no time zone')}, {escape(business.currency)}</p>")
        parts.append(_table(CUSTOMER_HEAD, [_customer_row(ledger, row) for row in customers]))
        parts.append(_table(INVOICE_HEAD, [_invoice_row(ledger, row) for row in invoices]))
    body = "".join(parts) or "<p>No business yet.</p>"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Wave (sandbox)</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><h1>Wave (sandbox)</h1>{body}</body></html>'


def _customer_row(ledger: Ledger, row: Customer) -> list[str]:
    code = ledger.customer_currency(row.id)
    sums = [f"{money(amount, code)['value']} {code}" for amount in (ledger.outstanding(row.id), ledger.overdue(row.id))]
    return [row.name, row.email or "", row.phone or "", *sums]


def _invoice_row(ledger: Ledger, row: Invoice) -> list[str]:
    payments = "; ".join(f"{paid.payment_date} {amount_text(paid.amount, row.currency)} {paid.payment_method}" for paid in row.payments)
    sums = [f"{money(amount, row.currency)['value']} {row.currency}" for amount in (row.total, row.amount_due)]
    return [row.invoice_number, ledger.customers[row.customer].name, row.status, row.due_date.isoformat(), payments, *sums]


def _table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    if not rows:
        return f"<p>No {head[0].lower()}s yet.</p>"
    return f"<table>{_row('th', head)}{''.join(_row('td', row) for row in rows)}</table>"


def _row(tag: str, cells: list[str] | tuple[str, ...]) -> str:
    # The last two columns of both tables are sums.
    kinds = [""] * (len(cells) - 2) + [' class="sum"'] * 2
    return "<tr>" + "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, cells, strict=True)) + "</tr>"
