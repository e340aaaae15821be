"""Structured logs: structlog over the standard library, JSON in production, a console in development.

Request ids travel in context variables. Whatever is written, by us or by a library, passes `redact` last.
Log lines go to standard error: standard output belongs to the commands.
"""

import logging
import logging.config
import re
from collections.abc import Mapping, MutableMapping
from typing import Any

import orjson
import structlog

# Platform keys (tg_live_...), webhook secrets (whsec_...), provider keys (sk-...), bearer tokens, AWS ids, Google keys
# and tokens, private keys. Kept to shapes that are never ordinary text, so that a message about "sk-" or "Bearer" stays
# readable.
_SECRETS = re.compile(
    r"""tg_(?:live|test)_[A-Za-z0-9]{4,}
      | \bwhsec_[A-Za-z0-9+/]{8,}=*
      | \b(?:sk|rk|pk|gsk|xai|pplx|nvapi|hf|r8)[-_][A-Za-z0-9_\-]{8,}
      | \bAIza[A-Za-z0-9_\-]{20,}
      | \b(?:AQ|ya29)\.[A-Za-z0-9_\-.]{12,}
      | -----BEGIN\ [A-Z\ ]*PRIVATE\ KEY-----[\s\S]*?(?:-----END[A-Z\ ]*-----|$)
      | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b
      | (?i:(?<=bearer\ ))[A-Za-z0-9._~+/\-]{6,}=*
    """,
    re.VERBOSE,
)
_SECRET_NAMES = re.compile(r"(?i)(?:^|[_-])(?:authorization|api_?key|password|passwd|secret|token|cookie)$")
_HIDDEN = "[redacted]"
_QUIET = ("httpx", "httpcore", "aiohttp", "urllib3", "asyncio", "kombu", "amqp", "celery.worker.strategy")


def redact(text: str) -> str:
    """`text` with everything that looks like a key or a bearer token replaced."""
    return _SECRETS.sub(_HIDDEN, text)


def hide_named_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: a value whose name says it is secret (`api_key=...`) is hidden, whatever it looks like."""
    for name in event:
        if _SECRET_NAMES.search(name):
            event[name] = _HIDDEN
    return event


def _redact_line(_logger: Any, _method: str, line: str | bytes) -> str:
    """The last processor, after rendering: so that tracebacks and nested values are covered too."""
    return redact(line.decode() if isinstance(line, bytes) else line)


def _json(event: MutableMapping[str, Any], **_options: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _drop_noise(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event.pop("color_message", None)  # uvicorn's message once more, in colours
    return event


def configure(options: Mapping[str, str]) -> None:
    """Set up structlog and the standard library alike. `options`: `level`, and `format` (json or console).

    Django calls this through LOGGING_CONFIG, Celery through its set-up signal, `serve` through Django.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        hide_named_secrets,
        _drop_noise,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer(serializer=_json)
        if options["format"] == "json"
        else structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "structured": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": [structlog.stdlib.ExtraAdder(), *shared],
                    "processors": [
                        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                        renderer,
                        _redact_line,
                    ],
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
            "root": {"handlers": ["stderr"], "level": options["level"]},
            "loggers": {
                **{name: {"level": "WARNING"} for name in _QUIET},
                # Django's default configuration gives these handlers of their own, which would not redact.
                "django": {"handlers": [], "level": "INFO", "propagate": True},
                "django.server": {"handlers": [], "level": "INFO", "propagate": True},
                # Anyone can send a wrong Host; it is answered with 400 and needs no stack trace.
                "django.security.DisallowedHost": {"handlers": [], "level": "CRITICAL", "propagate": True},
                # The access log would cost more than the request; errors still come through.
                "uvicorn.access": {"level": "WARNING"},
            },
        }
    )
