"""Money and currencies in the shape of Wave's GraphQL API."""

from decimal import Decimal
from typing import Any

# name, plural, symbol; every other code is told by its letters
NAMES = {
    "USD": ("United States dollar", "United States dollars", "$"),
    "CAD": ("Canadian dollar", "Canadian dollars", "$"),
    "AUD": ("Australian dollar", "Australian dollars", "$"),
    "EUR": ("Euro", "Euros", "€"),
    "GBP": ("British pound", "British pounds", "£"),
    "CHF": ("Swiss franc", "Swiss francs", "CHF"),
    "JPY": ("Japanese yen", "Japanese yen", "¥"),
    "KWD": ("Kuwaiti dinar", "Kuwaiti dinars", "KD"),
}

# ISO 4217: https://www.iso.org/iso-4217-currency-codes.html
NO_MINOR_UNIT = ("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF")
THOUSANDTHS = ("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND")
EXPONENTS = dict.fromkeys(NO_MINOR_UNIT, 0) | dict.fromkeys(THOUSANDTHS, 3)


def currency(code: str) -> dict[str, Any]:
    """Return a Currency."""
    name, plural, symbol = NAMES.get(code, (code, code, code))
    return {"code": code, "exponent": EXPONENTS.get(code, 2), "name": name, "plural": plural, "symbol": symbol}


def money(amount: Decimal, code: str) -> dict[str, Any]:
    """Return a Money: `value` with thousands separators, `minorUnitValue` as a decimal, `raw` as the number that may overflow."""
    told = currency(code)
    minor = int(_rounded(amount, code).scaleb(told["exponent"]))
    return {"value": f"{_rounded(amount, code):,f}", "minorUnitValue": Decimal(minor), "raw": minor, "currency": told}


def amount_text(amount: Decimal, code: str) -> str:
    """Return an amount as a plain decimal string, as payments and webhooks tell it."""
    return f"{_rounded(amount, code):f}"


def _rounded(amount: Decimal, code: str) -> Decimal:
    return amount.quantize(Decimal(1).scaleb(-EXPONENTS.get(code, 2)))
