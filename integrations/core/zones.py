"""Time zones by name, where the name comes from outside."""

from zoneinfo import ZoneInfo


def zone_of(name: str, fallback: str = "UTC") -> ZoneInfo:
    """Return the zone of an IANA name, else that of the fallback, else UTC."""
    for known in (name, fallback):
        try:
            return ZoneInfo(known)
        # ValueError: a path or a NUL; OSError: a name that is a folder of the database, or far too long.
        except (KeyError, ValueError, OSError):
            continue
    return ZoneInfo("UTC")
