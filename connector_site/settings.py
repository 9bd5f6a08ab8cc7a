"""Settings, read from the environment and .env by django-environ; docs/architecture.md lists the variables."""

import socket
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import django_stubs_ext
import environ

django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()
environ.Env.read_env(BASE_DIR / ".env")

# --- Secrets: connector_site.checks refuses missing, weak or equal ones -------------------------------------------
SECRET_KEY = env.str("SECRET_KEY", default="") or "missing"
FERNET_KEYS = env.list("FERNET_KEYS", default=[])  # the first encrypts, all decrypt
FERNET_USE_HKDF = False

# --- Where we are reached ------------------------------------------------------------------------------------------
DEBUG = env.bool("DEBUG", default=False)
PUBLIC_URL = env.str("PUBLIC_URL", default="http://127.0.0.1:8000").rstrip("/")
_public = urlsplit(PUBLIC_URL)
_https = _public.scheme == "https"
ALLOWED_HOSTS = sorted({_public.hostname or "", "127.0.0.1", "localhost"} - {""})
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if _https else None
SECURE_SSL_REDIRECT = _https
SECURE_HSTS_SECONDS = 31_536_000 if _https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = _https
SECURE_HSTS_PRELOAD = _https
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _https
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"  # Lax: a vendor sends the browser back to us with its session
X_FRAME_OPTIONS = "DENY"
SECURE_REDIRECT_EXEMPT = [r"^healthz$"]

# --- Django --------------------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "connector_site.admin_site.ConnectorAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_q",
    "axes",
    "audit",
    "integrations",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "connector_site.csp.BrowserPolicy",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",  # the last, as its documentation asks
]
ROOT_URLCONF = "connector_site.urls"
WSGI_APPLICATION = "connector_site.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
# --- Logging in: attempts are counted per name and address (django-axes) ---------------------------------------------
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
PROXIES = env.int("PROXIES", default=0)  # how many proxies of our own stand before us and append to X-Forwarded-For
AXES_ENABLED = env.bool("LOGIN_THROTTLE", default=True)
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_ON_SUCCESS = True
# Name and address together: by name alone anybody could lock an administrator out, by address alone an office locks itself out.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_CLIENT_IP_CALLABLE = "connector_site.login.client_ip"
AXES_LOCKOUT_CALLABLE = "connector_site.login.locked_out"
AXES_DISABLE_ACCESS_LOG = True
AXES_ENABLE_ADMIN = False
AXES_VERBOSE = False
LANGUAGE_CODE = "en-gb"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
# Pages work without `collectstatic`: whitenoise then serves the files from where the packages keep them.
WHITENOISE_USE_FINDERS = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5000


# --- Database ------------------------------------------------------------------------------------------------------
def _database() -> dict[str, Any]:
    """Return the database settings; both engines keep connections open, SQLite takes its write lock at BEGIN.

    With Django's defaults concurrent SQLite transactions fail with "database is locked"; an acknowledgement
    is a promise, hence synchronous=FULL.
    """
    found: dict[str, Any] = env.db_url("DATABASE_URL", default=f"sqlite:///{BASE_DIR / 'db.sqlite3'}")
    found |= {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True, "ATOMIC_REQUESTS": False}
    if found["ENGINE"].endswith("sqlite3"):
        pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
        found["OPTIONS"] = {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": pragmas}
    return found


DATABASES = {"default": _database()}

# --- Waking workers: the job rows are the queue, django-q2 is the alarm clock ---------------------------------------
SYNC_TASK = "integrations.tasks.sync"
Q_CLUSTER = {
    "name": "ml-connector",
    "orm": "default",
    "workers": env.int("WORKERS", default=2),
    "queue_limit": 1,
    "bulk": 1,
    "timeout": 60,
    "retry": 300,
    "max_attempts": 1,
    "ack_failures": True,
    "save_limit": -1,
    "catch_up": False,
    "poll": 0.2,
    "label": "Background tasks",
}

# Heartbeats go by it: where two supervisors run on one machine, each needs a name of its own.
WORKER_NAME = env.str("WORKER_NAME", default=socket.gethostname())[:64]

# --- Webhooks and jobs ----------------------------------------------------------------------------------------------
WEBHOOK_ACK = env.str("WEBHOOK_ACK", default="processed")  # processed | stored
WEBHOOK_TOLERANCE = env.int("WEBHOOK_TOLERANCE", default=300)  # seconds, both ways
WEBHOOK_DEADLINE = env.float("WEBHOOK_DEADLINE", default=8.0)  # seconds
WEBHOOK_MAX_BYTES = env.int("WEBHOOK_MAX_BYTES", default=262_144)
DATA_UPLOAD_MAX_MEMORY_SIZE = max(2_621_440, WEBHOOK_MAX_BYTES + 1)
HTTP_CONNECT_TIMEOUT = env.float("HTTP_CONNECT_TIMEOUT", default=3.0)  # seconds
HTTP_TIMEOUT = env.float("HTTP_TIMEOUT", default=8.0)  # seconds, between two bytes of an answer
JOB_BUDGET = env.int("JOB_BUDGET", default=40)  # seconds
JOB_LEASE = env.int("JOB_LEASE", default=120)  # seconds
JOB_GIVE_UP = env.int("JOB_GIVE_UP", default=72 * 3600)  # seconds
BUDGET_BULK_SHARE = env.float("BUDGET_BULK_SHARE", default=0.92)  # of each limit; the rest is kept for live events
POLL_SECONDS = env.int("POLL_SECONDS", default=120)
BUSINESS_TIME_ZONE = env.str("BUSINESS_TIME_ZONE", default="UTC")

# --- Vendors: the operator's choice, never a staff user's input ------------------------------------------------------
WAVE_GRAPHQL_URL = env.str("WAVE_GRAPHQL_URL", default="https://gql.waveapps.com/graphql/public")
WAVE_OAUTH_URL = env.str("WAVE_OAUTH_URL", default="https://api.waveapps.com/oauth2/")
WAVE_MAX_PER_MINUTE = env.int("WAVE_MAX_PER_MINUTE", default=60)  # 0 = no limit
WAVE_MAX_CONCURRENT = env.int("WAVE_MAX_CONCURRENT", default=1)  # 0 = no limit
WAVE_EVENTS_HANDLED = [
    name.strip()
    for name in env.list(
        "WAVE_EVENTS_HANDLED",
        default=[
            "customer.created",
            "customer.updated",
            "invoice.created",
            "invoice.updated",
            "payment.created",
            "invoice.approved",
            "invoice.sent",
            "invoice.viewed",
            "invoice.paid",
            "invoice.partially_paid",
            "invoice.overpaid",
            "invoice.overdue",
        ],
    )
]
WAVE_EVENTS_IGNORED = [name.strip() for name in env.list("WAVE_EVENTS_IGNORED", default=["estimate.*"])]
ZENDESK_URL = env.str("ZENDESK_URL", default="https://{subdomain}.zendesk.com")
JIRA_API_URL = env.str("JIRA_API_URL", default="https://api.atlassian.com/ex/jira/{cloud_id}")
JIRA_SITE_URL = env.str("JIRA_SITE_URL", default="https://{site}.atlassian.net")
ATLASSIAN_AUTH_URL = env.str("ATLASSIAN_AUTH_URL", default="https://auth.atlassian.com")
ATLASSIAN_API_URL = env.str("ATLASSIAN_API_URL", default="https://api.atlassian.com")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"}},
    "filters": {"redact": {"()": "connector_site.redaction.Redact"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["redact"]}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", default="INFO")},
    # urllib3 writes each URL with its query at DEBUG; requests' exceptions are translated before they are logged.
    # The development server writes each request with its query, an OAuth code among it, past the root.
    "loggers": {"urllib3": {"level": "WARNING"}, "django.server": {"handlers": ["console"], "level": "INFO", "propagate": False}},
}
