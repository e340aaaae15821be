"""The one settings file. Everything comes from the environment; `.env.example` explains every variable.

`.env` in the repository root is read if it is there and never overrides the real environment.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from tollgate import secrets
from tollgate.environment import Environment, Pool, database, mail_server, sqlite_url

ROOT = Path(__file__).resolve().parent.parent.parent

# A developer's .env must not decide how the tests run, so they do not read it.
if os.environ.get("TOLLGATE_ENV") != "test":
    environ.Env.read_env(ROOT / ".env")

env = Environment()

TOLLGATE_ENV = env.choice("TOLLGATE_ENV", "development", ("development", "production", "test"))
PRODUCTION = TOLLGATE_ENV == "production"
TESTING = TOLLGATE_ENV == "test"


def _data_dir() -> Path:
    """TOLLGATE_DATA_DIR, relative to the root; the tests get a folder of their own that goes when they end."""
    given = env.text("TOLLGATE_DATA_DIR")
    if given or not TESTING:
        return (ROOT / (given or "var")).resolve()
    folder = Path(tempfile.mkdtemp(prefix="tollgate-test-"))
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not in a forked child, which inherits this hook
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


# --- Who we are -------------------------------------------------------------------------------------------------------

TOLLGATE_DATA_DIR = _data_dir()
HOST = env.text("HOST", "127.0.0.1")
PORT = env.whole("PORT", 8084, least=1, most=65_535)
WEB_WORKERS = env.whole("WEB_WORKERS", 1, least=1, most=256)
GRACE_PERIOD_S = env.whole("GRACE_PERIOD_S", 30, least=1, most=3_600)
FORWARDED_ALLOW_IPS = env.text("FORWARDED_ALLOW_IPS", "127.0.0.1")

# A debug page shows local variables, keys among them: never in production, and elsewhere only when asked for.
DEBUG = env.flag("DEBUG", False)
if DEBUG and PRODUCTION:
    raise ImproperlyConfigured("DEBUG cannot be on in production: its error pages show local variables.")

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]", HOST, *(("testserver",) if TESTING else ()))
ALLOWED_HOSTS = env.listed("ALLOWED_HOSTS", () if PRODUCTION else _LOCAL_HOSTS)
if PRODUCTION and not ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS is not set. Give the host names clients use: ALLOWED_HOSTS=llm.acme.org")
CSRF_TRUSTED_ORIGINS = env.listed("CSRF_TRUSTED_ORIGINS")

# --- Secrets ----------------------------------------------------------------------------------------------------------

_secrets = secrets.load(
    {name: env.text(name) for name in ("SECRET_KEY", "ENCRYPTION_KEY", "KEY_PEPPER")},
    folder=TOLLGATE_DATA_DIR,
    production=PRODUCTION,
)
SECRET_KEY = _secrets.secret_key
ENCRYPTION_KEYS = _secrets.encryption_keys  # 32 bytes each: the first encrypts, all decrypt
KEY_PEPPERS = _secrets.peppers  # id -> 32 bytes, in order: the first signs new keys, all verify
METRICS_TOKEN = env.text("METRICS_TOKEN")
if PRODUCTION:
    secrets.refuse_weak_token("METRICS_TOKEN", METRICS_TOKEN)

# --- Limits, timeouts, money ------------------------------------------------------------------------------------------

MAX_BODY_V1 = env.whole("MAX_BODY_V1", 32 * 1024 * 1024, least=1_024)
MAX_BODY_API = env.whole("MAX_BODY_API", 2 * 1024 * 1024, least=1_024)
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_API
MAX_BODY_BYTES_IN_FLIGHT = env.whole("MAX_BODY_BYTES_IN_FLIGHT", 256 * 1024 * 1024, least=MAX_BODY_V1)
BODY_TIMEOUT_S = env.seconds("BODY_TIMEOUT_S", 30)
MAX_LOOP_DELAY_S = env.seconds("MAX_LOOP_DELAY_S", 0.5)
MAX_IN_FLIGHT = env.whole("MAX_IN_FLIGHT", 2_000, least=1)
MAX_IN_FLIGHT_PER_TENANT = env.whole("MAX_IN_FLIGHT_PER_TENANT", 1_000, least=1)
MAX_IN_FLIGHT_PER_PROVIDER = env.whole("MAX_IN_FLIGHT_PER_PROVIDER", 1_500, least=1)
UPSTREAM_CONNECT_TIMEOUT_S = env.seconds("UPSTREAM_CONNECT_TIMEOUT_S", 5)
UPSTREAM_FIRST_EVENT_TIMEOUT_S = env.seconds("UPSTREAM_FIRST_EVENT_TIMEOUT_S", 60)
UPSTREAM_IDLE_TIMEOUT_S = env.seconds("UPSTREAM_IDLE_TIMEOUT_S", 60)
UPSTREAM_TOTAL_TIMEOUT_S = env.seconds("UPSTREAM_TOTAL_TIMEOUT_S", 600)
USAGE_RETENTION_DAYS = env.whole("USAGE_RETENTION_DAYS", 0)
if 0 < USAGE_RETENTION_DAYS < 35:
    raise ImproperlyConfigured(
        f"USAGE_RETENTION_DAYS is {USAGE_RETENTION_DAYS}; it must be at least 35, since reports and the re-costing of "
        "prices look back 30 days, or 0, which keeps usage for ever."
    )
PRICE_FOUR_EYES = env.choice("PRICE_FOUR_EYES", "proposals", ("proposals", "all"))
LITELLM_PROXY_URL = env.text("LITELLM_PROXY_URL")
LITELLM_MASTER_KEY = env.text("LITELLM_MASTER_KEY")

# --- Data -------------------------------------------------------------------------------------------------------------

DATABASE_POOL = Pool(
    smallest=env.whole("DATABASE_POOL_MIN", 1),
    # The tests drop their database at the end, which idle pooled connections would prevent.
    largest=env.whole("DATABASE_POOL_MAX", 0 if TESTING else 10),
    wait_s=env.seconds("DATABASE_POOL_TIMEOUT_S", 0.75),
)
DATABASES: dict[str, dict[str, Any]] = {
    "default": database(
        env.text("DATABASE_URL") or sqlite_url(TOLLGATE_DATA_DIR / "tollgate.sqlite3"), pool=DATABASE_POOL
    )
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
REDIS_URL = env.text("REDIS_URL")  # optional: shared rate limits and breaker state; nothing that must be right
REDIS_TIMEOUT_S = env.seconds("REDIS_TIMEOUT_S", 0.05)
TIME_ZONE = "UTC"
USE_TZ = True
LANGUAGE_CODE = "en-us"
USE_I18N = False

# --- Django -----------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold",  # before the admin: it replaces its templates
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "unfold.contrib.import_export",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "django_celery_results",
    "import_export",
    "tenants.apps.TenantsConfig",
    "billing.apps.BillingConfig",
    "llm.apps.LlmConfig",
    "tollgate.apps.TollgateConfig",
]
MIDDLEWARE = [
    "tollgate.middleware.request_ids",
    "django.middleware.security.SecurityMiddleware",
    # It works in threads only, which makes all before it run in one thread: cheaper than a hop for each.
    "tollgate.middleware.StaticMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "tollgate.middleware.SlashMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "tollgate.urls"
ASGI_APPLICATION = "tollgate.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
if TESTING:
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the slow ones are the point, but not here

# Served from the packages' own folders by whitenoise: no collectstatic to forget, and the same files everywhere.
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG
WHITENOISE_MAX_AGE = 600

# --- Behind TLS -------------------------------------------------------------------------------------------------------

SECURE_SSL_REDIRECT = env.flag("SECURE_SSL_REDIRECT", PRODUCTION)
SECURE_HSTS_SECONDS = env.whole("SECURE_HSTS_SECONDS", 31_536_000 if PRODUCTION else 0)
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.flag("SECURE_HSTS_INCLUDE_SUBDOMAINS", PRODUCTION)
SECURE_HSTS_PRELOAD = env.flag("SECURE_HSTS_PRELOAD", PRODUCTION)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PRODUCTION
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# --- The API ----------------------------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": ["tenants.api.rendering.OrjsonRenderer"],
    "DEFAULT_PARSER_CLASSES": ["tenants.api.parsing.StrictJSONParser"],
    "DEFAULT_AUTHENTICATION_CLASSES": ["tenants.auth.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["tenants.auth.HasScope"],  # a view that declares no scope is refused
    "DEFAULT_FILTER_BACKENDS": [
        "django_filters.rest_framework.DjangoFilterBackend",
        "rest_framework.filters.SearchFilter",
        "rest_framework.filters.OrderingFilter",
    ],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "tollgate.api.AnyAccept",
    "DEFAULT_METADATA_CLASS": None,  # OPTIONS is a 405 like any method a view has not: the schema is at /api/schema/
    "DEFAULT_PAGINATION_CLASS": "tollgate.api.Page",
    "PAGE_SIZE": 50,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "tollgate.api.exception_handler",
    "COERCE_DECIMAL_TO_STRING": True,
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Tollgate",
    "DESCRIPTION": "A multi-tenant LLM gateway: the management and tenant API.",
    "VERSION": "1",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "TierEnum": "tenants.tiers.Tier",
        "BreakerKindEnum": "llm.choices.BreakerKind",
        "HealthStatusEnum": "llm.choices.HealthStatus",
        "PriceStatusEnum": "llm.choices.PriceStatus",
        "BreakerStateEnum": "llm.choices.BreakerState",
        "PriceTaskStateEnum": "llm.choices.PriceTaskState",
        "ProposalStateEnum": "llm.choices.ProposalState",
        "CorrectionStateEnum": "llm.choices.CorrectionState",
        "UsageStatusEnum": "billing.models.UsageRecord.Status",
        "KindEnum": "llm.choices.Kind",
        "AlertEventEnum": "billing.alert_models.Event",
        "DeliveryStatusEnum": "billing.alert_models.AlertDelivery.Status",
        "AdjustmentKindEnum": "billing.models.Adjustment.Kind",
        "CreditEntryKindEnum": "billing.credit_models.CreditEntry.Kind",
        "CreditSourceEnum": "billing.credit_models.CreditEntry.Source",
        "TermsSourceEnum": "tenants.api.serializers.SOURCES",
        "SubscriptionKindEnum": "billing.alert_models.AlertSubscription.Kind",
    },
    # From the wheel, so that the documentation works offline.
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
}

# --- The admin --------------------------------------------------------------------------------------------------------

LOGIN_REDIRECT_URL = "/admin/"  # of who signs in at /admin/login/ itself

UNFOLD = {
    "SITE_TITLE": "Tollgate",
    "SITE_HEADER": "Tollgate",
    "SITE_SUBHEADER": "LLM gateway",
    "SITE_SYMBOL": "toll",
    "SITE_URL": "/admin/",
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": "tollgate.admin.navigation.favicon"}],
    "SHOW_HISTORY": True,  # the audit log of the object
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "tollgate.admin.dashboard.context",
    "STYLES": ["tollgate.admin.navigation.stylesheet"],
    "SIDEBAR": {"show_search": False, "navigation": "tollgate.admin.navigation.groups"},
    "COLORS": {
        "primary": {
            "50": "oklch(98.4% .014 180.72)",
            "100": "oklch(95.3% .051 180.801)",
            "200": "oklch(91% .096 180.426)",
            "300": "oklch(85.5% .138 181.071)",
            "400": "oklch(77.7% .152 181.912)",
            "500": "oklch(70.4% .14 182.503)",
            "600": "oklch(51.1% .096 186.391)",
            "700": "oklch(43.7% .078 188.216)",
            "800": "oklch(38.6% .063 188.416)",
            "900": "oklch(32% .05 190)",
            "950": "oklch(27.7% .046 192.524)",
        }
    },
}
IMPORT_EXPORT_USE_TRANSACTIONS = True
IMPORT_EXPORT_ESCAPE_FORMULAE_ON_EXPORT = True  # a spreadsheet must not run what a tenant typed
IMPORT_EXPORT_ESCAPE_ILLEGAL_CHARS_ON_EXPORT = True

# --- Jobs -------------------------------------------------------------------------------------------------------------

_broker_dir = TOLLGATE_DATA_DIR / "broker"
CELERY_BROKER_URL = env.text("CELERY_BROKER_URL", "filesystem://")
if CELERY_BROKER_URL == "filesystem://":
    CELERY_BROKER_URL = "filesystem://localhost//"  # the same, without a warning about the missing host at each start
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {}
# A broker that is down or mute costs the caller two seconds at most, and every job is re-derivable anyway.
CELERY_BROKER_CONNECTION_TIMEOUT = 2
if CELERY_BROKER_URL.startswith("filesystem:"):
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "data_folder_in": str(_broker_dir / "queue"),
        "data_folder_out": str(_broker_dir / "queue"),
        "control_folder": str(_broker_dir / "control"),
    }
elif CELERY_BROKER_URL.startswith(("redis:", "rediss:", "sentinel:")):
    # Its transport has no time-outs of its own. A worker waits for jobs a second at a time.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 2, "socket_connect_timeout": 2}
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_RESULT_BACKEND = "django-db"
CELERY_RESULT_EXTENDED = True
CELERY_RESULT_EXPIRES = 7 * 24 * 3600
CELERY_TASK_IGNORE_RESULT = False
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
# Every task is idempotent, so one whose worker died is better run twice than never.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_SOFT_TIME_LIMIT = 600
CELERY_TASK_TIME_LIMIT = 660
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
DJANGO_CELERY_BEAT_TZ_AWARE = True

# --- Mail, for alerts -------------------------------------------------------------------------------------------------

# Elsewhere than in production it is printed, not sent. Never silently dropped: a server that is not there is an error
# that the delivery log shows.
globals().update(mail_server(env.text("EMAIL_URL", "smtp://localhost:25" if PRODUCTION else "consolemail://")))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.text("DEFAULT_FROM_EMAIL", "Tollgate <tollgate@localhost>")

# --- Logs -------------------------------------------------------------------------------------------------------------

LOGGING_CONFIG = "tollgate.logs.configure"
LOGGING = {
    "level": env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")),
    "format": env.choice("LOG_FORMAT", "json" if PRODUCTION else "console", ("json", "console")),
}
