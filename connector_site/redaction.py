"""Keeps what looks like a secret out of the log, whoever logs it: the last of several lines of defence."""

import logging
import re

HIDDEN = "[secret]"
NAMES = "client_secret|access_token|refresh_token|api_token|id_token|token|secret|password|passwd|code_verifier|assertion|api_key|apikey"
# A query's code and state, as access logs write the address that a vendor sends a browser back to.
QUERY = "code|state"
PATTERNS = (
    # Authorization: Bearer ..., Basic ...
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), rf"\1 {HIDDEN}"),
    # {"access_token": "..."}, client_secret=..., 'password': '...'
    (re.compile(rf"""(?i)\b((?:{NAMES})["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s&,;"'}})\]]+)"""), rf"\1{HIDDEN}"),
    (re.compile(rf"(?i)([?&](?:{QUERY})=)[^\s&\"']+"), rf"\1{HIDDEN}"),
    # Webhook signatures: v1=<hex>, sha256=<hex>
    (re.compile(r"(?i)\b(v1|sha256)=[0-9a-f]{16,}"), rf"\1={HIDDEN}"),
    # JSON Web Tokens, and Fernet's tokens
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"), HIDDEN),
    (re.compile(r"\bgAAAAA[A-Za-z0-9_-]{20,}={0,2}"), HIDDEN),
    # https://user:password@host
    (re.compile(r"(://[^\s/:@]+:)[^\s/@]+@"), rf"\1{HIDDEN}@"),
)


def redacted(text: str) -> str:
    """Return the text without what looks like a token, a password or a signature."""
    for pattern, replacement in PATTERNS:
        text = pattern.sub(replacement, text)
    return text


class Redact(logging.Filter):
    """A filter for handlers: message and traceback lose their secrets, whatever the formatter does with them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record; let it through always."""
        record.msg, record.args = redacted(_message(record)), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redacted(record.exc_text)
        if record.stack_info:
            record.stack_info = redacted(record.stack_info)
        return True


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # placeholders and arguments do not fit: logging would print both to stderr
        return f"{record.msg} {record.args}"
