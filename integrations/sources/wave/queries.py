"""The GraphQL documents that we send; a test validates each one against Wave's schema.

https://developer.waveapps.com/hc/en-us/articles/360019968212 (API reference). Text arguments are always variables.
"""

PAGE_SIZE = 100  # the largest that nobody reports to be refused

_MONEY = "fragment Amount on Money { minorUnitValue currency { code exponent } }"

_CUSTOMER = """
fragment Person on Customer {
  id name firstName lastName displayId email phone mobile website isArchived createdAt modifiedAt
  currency { code }
  address { addressLine1 addressLine2 city postalCode province { name } country { name } }
  outstandingAmount { ...Amount }
  overdueAmount { ...Amount }
}"""

_BILL = """
fragment Bill on Invoice {
  id invoiceNumber status title poNumber memo invoiceDate dueDate viewUrl pdfUrl createdAt modifiedAt
  currency { code exponent }
  total { ...Amount }
  amountDue { ...Amount }
  amountPaid { ...Amount }
  customer { ...Person }
}"""

# Wave fills payments only where one invoice is asked for, not in lists.
_PAID = """
fragment Paid on Invoice {
  payments {
    id amount paymentDate paymentMethod state memo active transactionType createdAt
    paymentCurrency { code exponent }
    originInvoicePayment { id }
  }
}"""

_DUE = """
fragment Due on InvoiceConnection {
  pageInfo { currentPage totalPages }
  edges { node { id invoiceNumber status dueDate amountDue { ...Amount } } }
}"""

_BY_DUE = f"sort: [AMOUNT_DUE_DESC], pageSize: {PAGE_SIZE}"
_OPEN = f"""
fragment Open on Business {{
  openInvoices: invoices(customerId: $customer, page: $page, {_BY_DUE}) {{ ...Due }}
}}{_DUE}"""

_BUSINESS = "id name timezone currency { code }"
_INVOICE = _BILL + _PAID
_READ_INVOICE = "invoice(id: $invoice) { ...Bill ...Paid }"
_READ_CUSTOMER = "customer(id: $customer) { ...Person } ...Open"

# One document per question instead of @include: whether Wave takes directives is not known.
BUSINESS = f"query Business($business: ID!) {{ business(id: $business) {{ {_BUSINESS} }} }}"
INVOICE = f"""query Invoice($business: ID!, $invoice: ID!) {{ business(id: $business) {{ {_BUSINESS} {_READ_INVOICE} }} }}
{_INVOICE}{_CUSTOMER}
{_MONEY}"""
CUSTOMER = f"""query Customer($business: ID!, $customer: ID!, $page: Int!) {{ business(id: $business) {{ {_BUSINESS} {_READ_CUSTOMER} }} }}
{_CUSTOMER}{_OPEN}
{_MONEY}"""
INVOICE_AND_CUSTOMER = f"""query InvoiceAndCustomer($business: ID!, $invoice: ID!, $customer: ID!, $page: Int!) {{
  business(id: $business) {{ {_BUSINESS} {_READ_INVOICE} {_READ_CUSTOMER} }}
}}
{_INVOICE}{_CUSTOMER}{_OPEN}
{_MONEY}"""
OPEN_INVOICES = f"""query OpenInvoices($business: ID!, $customer: ID!, $page: Int!) {{ business(id: $business) {{ ...Open }} }}
{_OPEN}
{_MONEY}"""


def many(invoices: int, customers: int) -> str:
    """Return the document that reads so many invoices ($i0 ...) and customers ($c0 ...), these with their open invoices."""
    declared = "".join(f", ${letter}{place}: ID!" for letter, count in (("i", invoices), ("c", customers)) for place in range(count))
    reads = [f"i{place}: invoice(id: $i{place}) {{ ...Bill ...Paid }}" for place in range(invoices)]
    for place in range(customers):
        reads.append(f"c{place}: customer(id: $c{place}) {{ ...Person }}")
        reads.append(f"o{place}: invoices(customerId: $c{place}, page: 1, {_BY_DUE}) {{ ...Due }}")
    fragments = (_INVOICE if invoices else "") + _CUSTOMER + (_DUE if customers else "")
    return f"query Many($business: ID!{declared}) {{ business(id: $business) {{ {_BUSINESS} {' '.join(reads)} }} }}\n{fragments}\n{_MONEY}"


INVOICE_OF_PAYMENT = (
    "query InvoiceOfPayment($business: ID!, $payment: ID!) { business(id: $business) { invoicePayment(id: $payment) { invoice { id } } } }"
)

# Offset pages shift while they are turned: by time of change, a record that changes meanwhile only moves to the end.
CHANGED_CUSTOMERS = f"""query ChangedCustomers($business: ID!, $after: DateTime!, $page: Int!) {{ business(id: $business) {{
  customers(modifiedAtAfter: $after, sort: [MODIFIED_AT_ASC], page: $page, pageSize: {PAGE_SIZE}) {{
    pageInfo {{ currentPage totalPages }}
    edges {{ node {{ id name email displayId modifiedAt }} }}
  }}
}} }}"""
CHANGED_INVOICES = f"""query ChangedInvoices($business: ID!, $after: DateTime!, $page: Int!) {{ business(id: $business) {{
  invoices(modifiedAtAfter: $after, sort: [MODIFIED_AT_ASC], page: $page, pageSize: {PAGE_SIZE}) {{
    pageInfo {{ currentPage totalPages }}
    edges {{ node {{ id modifiedAt customer {{ id }} }} }}
  }}
}} }}"""
# Where one record's name or customer fails at Wave, the schema lets it take the whole page with it: ids and times do not.
LISTED_CUSTOMERS = CHANGED_CUSTOMERS.replace("ChangedCustomers", "ListedCustomers").replace("id name email displayId", "id")
LISTED_INVOICES = CHANGED_INVOICES.replace("ChangedInvoices", "ListedInvoices").replace(" customer { id }", "")

# Whole records for lists. `before` shows what stands just before the page: so the reader sees whether pages have shifted.
_SWEEP = f"modifiedAtAfter: $after, sort: [MODIFIED_AT_ASC], page: $page, pageSize: {PAGE_SIZE}"
_BEFORE = "modifiedAtAfter: $after, sort: [MODIFIED_AT_ASC], page: $before, pageSize: 1"
_SWEEP_VARIABLES = "$business: ID!, $after: DateTime!, $page: Int!, $before: Int!"
SWEEP_CUSTOMERS = f"""query SweepCustomers({_SWEEP_VARIABLES}) {{ business(id: $business) {{
  {_BUSINESS}
  before: customers({_BEFORE}) {{ edges {{ node {{ id }} }} }}
  page: customers({_SWEEP}) {{ pageInfo {{ currentPage totalPages }} edges {{ node {{ ...Person }} }} }}
}} }}
{_CUSTOMER}
{_MONEY}"""
SWEEP_INVOICES = f"""query SweepInvoices({_SWEEP_VARIABLES}) {{ business(id: $business) {{
  {_BUSINESS}
  before: invoices({_BEFORE}) {{ edges {{ node {{ id }} }} }}
  page: invoices({_SWEEP}) {{ pageInfo {{ currentPage totalPages }} edges {{ node {{ ...Bill }} }} }}
}} }}
{_BILL}{_CUSTOMER}
{_MONEY}"""
COUNTS = """query Counts($business: ID!, $after: DateTime!) { business(id: $business) {
  customers(modifiedAtAfter: $after, page: 1, pageSize: 1) { pageInfo { totalCount } }
  invoices(modifiedAtAfter: $after, page: 1, pageSize: 1) { pageInfo { totalCount } }
} }"""

USER = "query User { user { id defaultEmail } }"
BUSINESSES = """query Businesses($page: Int!) {
  businesses(page: $page, pageSize: 50) { pageInfo { currentPage totalPages } edges { node { id name isArchived } } }
}"""
CUSTOMERS_PAGE = (
    "query CustomersPage($business: ID!) { business(id: $business) { customers(page: 1, pageSize: 1) { edges { node { id } } } } }"
)
INVOICES_PAGE = (
    "query InvoicesPage($business: ID!) { business(id: $business) { invoices(page: 1, pageSize: 1) { edges { node { id } } } } }"
)
