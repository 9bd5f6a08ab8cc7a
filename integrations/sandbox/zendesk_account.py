"""One Zendesk account as its parts share it: options, plan, role, ids, limits, and what the product did wrong."""

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from integrations.sandbox.server import StandIn
from integrations.sandbox.windows import FixedWindow
from integrations.sandbox.zendesk_wire import Json, RefusedError, Window, forbidden, stamp

ACTING_USER = 35436


class Account(StandIn):
    """The options of the account; change them at any time, between two requests."""

    name = "zendesk"

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        super().__init__(clock)
        self.client_id = "sandbox-client"
        self.client_secret = "sandbox-secret"
        self.public_client = False  # PKCE instead of the secret
        self.email = "admin@sandbox.example"
        self.api_token = "sandbox-api-token"
        self.token_lifetime = 1800  # seconds
        self.refresh_lifetime = 30 * 86400  # seconds
        self.granted_scope: str | None = None  # given out whatever was asked for
        self.allowed_scopes: set[str] | None = None  # more is refused with invalid_scope
        self.consent = True  # what the person answers, with consent_at_once
        self.code_seconds = 120.0  # that an authorization code lives
        self.acting_user = ACTING_USER
        self.custom_objects = True
        self.admin = True
        self.bulk_users = False
        self.organization_limit = True  # 5 updates a minute per organization
        self.user_limit = False  # 5 updates a minute per user, 1 a second per account
        self.limit_per_minute = 0  # requests per account, 0 = no limit
        self.tells_reset = True  # ratelimit-* beside x-rate-limit-*, as seen; the names vary
        self.endpoint_limit = 0  # requests per minute and endpoint, told as zendesk-ratelimit-<endpoint>, 0 = no limit
        self.object_limit = 50
        self.record_limit = 50_000_000
        self.field_limit = 100  # per object
        self.bulk = True  # whether any bulk call is allowed
        self.job_limit = 30
        self.job_limit_status = 429  # the status of TooManyJobs, which the vendor does not document
        self.jobs_stuck = False  # jobs stay as they are
        self.jobs_break_after: int | None = None  # items after which a job ends as `failed`, without results
        self.job_seconds = 5.0  # a job that nobody polls ends by itself after this
        self.search_lag = 0.0  # seconds until the searches for users, organizations and records see a new row
        self.violations: list[str] = []  # what was accepted although the product must never send it
        self.mails: list[str] = []  # addresses that got a verification mail
        self.window = Window()
        self.minute = FixedWindow()
        self.endpoints: dict[str, FixedWindow] = {}
        self.numbers = itertools.count(1)

    def now(self) -> str:
        """Return the present time as Zendesk writes it."""
        return stamp(self.clock())

    def new_id(self, base: int) -> int:
        """Return a fresh large integer; `base` tells kinds of objects apart at a glance."""
        return base * 1_000_000_000_000 + next(self.numbers)

    def new_record_id(self) -> str:
        """Return a fresh id in the alphabet and length of a ULID, rising with time."""
        return f"01K{next(self.numbers):023d}"

    def require_admin(self) -> None:
        """Refuse set-up work by an agent."""
        if not self.admin:
            raise forbidden("You do not have access to this page. Please contact the account owner of this help desk for further help.")

    def object_exists(self, target: str, value: str) -> bool:
        """Say whether a lookup value names an existing object of `target`, e.g. zen:organization."""
        raise NotImplementedError

    def report(self, noun: str, body: Json, *, known: frozenset[str], never: frozenset[str] = frozenset()) -> None:
        """Record members of a write that the vendor ignores or that do harm."""
        for member in sorted(body):
            if member in never:
                self.violations.append(f"{noun} write sends {member}")
            elif member not in known:
                self.violations.append(f"{noun} write sends unknown {member}")

    # https://developer.zendesk.com/api-reference/introduction/rate-limits/
    def take_organization_turn(self, organization_id: int) -> None:
        """Count one update of an organization, or refuse it."""
        if not self.organization_limit:
            return
        wait = self.window.wait(f"organization {organization_id}", 5, 60, now=self.clock())
        if wait:
            errors = [{"code": "TooManyRequests", "title": "Too many requests to update"}]
            raise RefusedError(429, {"errors": errors}, {"Retry-After": str(wait)})

    def take_user_write_turn(self) -> None:
        """Count one write of any user, or refuse it."""
        if self.user_limit:
            self._plain_turn("users", 1, 1, "You have exceeded the rate limit for updating users.")

    def take_user_turn(self, user_id: int) -> None:
        """Count one update of a user, or refuse it."""
        if self.user_limit:
            self._plain_turn(f"user {user_id}", 5, 60, "You have exceeded the rate limit for updating a single unique user.")

    def take_account_turn(self) -> dict[str, str]:
        """Count one request and return the rate headers, or refuse it with them."""
        if not self.limit_per_minute:
            return {}
        now = self.clock()
        taken = self.minute.take(self.limit_per_minute, now + timedelta(seconds=60), now=now)
        left, wait = str(self.limit_per_minute - self.minute.used), str(self.minute.seconds_left(now))
        told = {"x-rate-limit": str(self.limit_per_minute), "x-rate-limit-remaining": left}
        if self.tells_reset:
            told |= {"ratelimit-limit": str(self.limit_per_minute), "ratelimit-remaining": left, "ratelimit-reset": wait}
        if not taken:
            raise _plainly_refused("Number of allowed API requests per minute exceeded", wait, told)
        return told

    def take_endpoint_turn(self, endpoint: str) -> dict[str, str]:
        """Count one request of an endpoint and return its header, or refuse it."""
        if not self.endpoint_limit:
            return {}
        now, window = self.clock(), self.endpoints.setdefault(endpoint, FixedWindow())
        taken, wait = window.take(self.endpoint_limit, now + timedelta(seconds=60), now=now), str(window.seconds_left(now))
        told = {
            f"zendesk-ratelimit-{endpoint}": f"total={self.endpoint_limit}; remaining={self.endpoint_limit - window.used}; resets={wait}"
        }
        if not taken:
            raise _plainly_refused("Rate limit for this endpoint exceeded, please wait before trying again", wait, told)
        return told

    def _plain_turn(self, key: str, limit: int, seconds: float, words: str) -> None:
        wait = self.window.wait(key, limit, seconds, now=self.clock())
        if wait:
            raise _plainly_refused(words, str(wait), {})


def _plainly_refused(words: str, wait: str, told: dict[str, str]) -> RefusedError:
    return RefusedError(429, words.encode(), {"Content-Type": "text/plain; charset=utf-8", "Retry-After": wait, **told})
