"""Write a .env with generated keys, for a first start: `python -m connector_site.envfile`. An existing one is kept."""

import secrets
import sys
from pathlib import Path

from cryptography.fernet import Fernet

TEMPLATE = """\
# Made for this machine; keep it secret and keep a copy: without FERNET_KEYS the stored credentials cannot be read.
SECRET_KEY={secret_key}
FERNET_KEYS={fernet_key}
# The address at which vendors reach this site; https in production. See .env.example for everything else.
PUBLIC_URL=http://127.0.0.1:8000
"""


def fresh_keys() -> dict[str, str]:
    """Return generated keys; url-safe text, for a value that starts with `$` would be read as a reference."""
    return {"secret_key": secrets.token_urlsafe(60), "fernet_key": Fernet.generate_key().decode()}


def write(path: Path) -> bool:
    """Write the file, readable by its owner only; False when there is one already."""
    if path.exists():
        return False
    path.touch(mode=0o600)
    path.write_text(TEMPLATE.format(**fresh_keys()))
    return True


if __name__ == "__main__":
    target = Path(__file__).resolve().parent.parent / ".env"
    sys.stdout.write(f"{target}: {'written with new keys' if write(target) else 'kept'}\n")
