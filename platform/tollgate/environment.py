"""Reading the environment: django-environ with its sharp edges filed off, and the database it describes."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

_SQLITE = "django.db.backends.sqlite3"
_POSTGRESQL = "django.db.backends.postgresql"

# WAL lets readers go on while the ledger writes. synchronous=FULL rather than NORMAL: in WAL mode NORMAL does not
# sync at commit, so a power cut could lose a settlement the client was already told about. Money must survive.
_SQLITE_INIT = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"


class LiteralEnviron(Mapping[str, str]):
    """The environment as written.

    django-environ reads a value that starts with `$` as a reference to another variable; a generated password may
    start so. With `escape_proxy` on it turns `\\$` back into `$`, so escaping here makes every value literal.
    A variable set to nothing counts as not set: `docker compose` hands on empty ones.
    """

    def __init__(self, source: Mapping[str, str]) -> None:
        self._source = source

    def __getitem__(self, name: str) -> str:
        value = self._source[name]
        if not value.strip():
            raise KeyError(name)
        return value.replace("$", "\\$")

    def __iter__(self) -> Iterator[str]:
        return (name for name, value in self._source.items() if value.strip())

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Environment:
    """Typed look-ups with a default; a value that does not fit raises ImproperlyConfigured naming the variable."""

    def __init__(self, source: Mapping[str, str] | None = None) -> None:
        self._env = environ.Env()
        self._env.ENVIRON = LiteralEnviron(os.environ if source is None else source)
        self._env.escape_proxy = True

    def text(self, name: str, default: str = "") -> str:
        """The value, stripped of surrounding blanks."""
        return str(self._env.str(name, default=default)).strip()

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """One of `choices`."""
        value = self.text(name, default)
        if value not in choices:
            raise ImproperlyConfigured(f"{name} is {value!r}; it must be one of: {', '.join(choices)}.")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """true/false, yes/no, on/off, 1/0."""
        value = self.text(name, str(default)).lower()
        if value in {"1", "true", "yes", "on", "y", "ok", "t"}:
            return True
        if value in {"0", "false", "no", "off", "n", "f"}:
            return False
        raise ImproperlyConfigured(f"{name} is {value!r}; it must be true or false.")

    def whole(self, name: str, default: int, *, least: int = 0, most: int | None = None) -> int:
        """A whole number within [least, most]."""
        value = self.text(name, str(default))
        try:
            number = int(value)
        except ValueError:
            raise ImproperlyConfigured(f"{name} is {value!r}; it must be a whole number.") from None
        if number < least or (most is not None and number > most):
            bounds = f"at least {least}" if most is None else f"between {least} and {most}"
            raise ImproperlyConfigured(f"{name} is {number}; it must be {bounds}.")
        return number

    def seconds(self, name: str, default: float) -> float:
        """A positive number of seconds; fractions are allowed."""
        value = self.text(name, str(default))
        try:
            number = float(value)
        except ValueError:
            raise ImproperlyConfigured(f"{name} is {value!r}; it must be a number of seconds.") from None
        if not 0 < number < 86_400:
            raise ImproperlyConfigured(f"{name} is {value}; it must be more than 0 and less than a day.")
        return number

    def listed(self, name: str, default: tuple[str, ...] = ()) -> list[str]:
        """A comma list; blanks around the items and empty items are dropped."""
        items = [item.strip() for item in self.text(name).split(",")]
        return [item for item in items if item] or list(default)


@dataclass(frozen=True)
class Pool:
    """Connections each process keeps to PostgreSQL. `largest` 0 means no pool: a connection per thread and request."""

    smallest: int
    largest: int
    wait_s: float


def database(url: str, *, pool: Pool) -> dict[str, Any]:
    """Django's DATABASES entry for `url`.

    PostgreSQL URLs may name a socket directory: `postgresql://user@/name?host=/run/postgresql`. A `pool` or
    `conn_max_age` in the URL is dropped: the first breaks every query (it arrives as a string), the second leaks
    connections under ASGI, where each request may run on another thread.
    """
    config: dict[str, Any] = dict(environ.Env.db_url_config(url))
    options: dict[str, Any] = dict(config.get("OPTIONS") or {})
    options.pop("pool", None)
    config["CONN_MAX_AGE"] = 0
    if config.get("ENGINE") == _SQLITE:
        # IMMEDIATE takes the write lock at BEGIN: a deferred transaction that upgrades later fails at once with
        # "database is locked" instead of waiting its turn.
        options = {"timeout": 5, "transaction_mode": "IMMEDIATE", "init_command": _SQLITE_INIT, **options}
        if config["NAME"] != ":memory:":
            name = Path(config["NAME"])
            # A file: the in-memory database Django would use is one connection's, and the tests have threads.
            config["TEST"] = {"NAME": str(name.with_name(f"test_{name.name}"))}
    elif config.get("ENGINE") == _POSTGRESQL:
        for key in ("user", "password", "host", "port"):
            if key in options:
                config[key.upper()] = options.pop(key)
        options.setdefault("connect_timeout", 2)  # the least libpq allows
        # A host that vanishes without a word would otherwise hold the ledger until TCP gives up, after 15 minutes.
        vanished = {"tcp_user_timeout": 4_000, "keepalives_idle": 2, "keepalives_interval": 1, "keepalives_count": 3}
        options = {**vanished, **options}
        if pool.largest:
            config["CONN_HEALTH_CHECKS"] = True  # a connection that died in the pool is replaced, not handed out
            options["pool"] = {
                "min_size": min(pool.smallest, pool.largest),
                "max_size": pool.largest,
                "timeout": pool.wait_s,
                # Its back-off doubles for five minutes by default; we want to be back within 5 s of the database.
                "reconnect_timeout": 3.0,
            }
    else:
        raise ImproperlyConfigured("DATABASE_URL must begin with postgresql:// or sqlite:///.")
    config["OPTIONS"] = options
    return config


def mail_server(url: str) -> dict[str, Any]:
    """Django's mail settings for `url`. Raises ImproperlyConfigured, without the URL: it may hold a password."""
    try:
        found: dict[str, Any] = environ.Env.email_url_config(url)
    except (ImproperlyConfigured, ValueError) as error:
        raise ImproperlyConfigured(
            "EMAIL_URL must be smtp://, smtp+tls:// or smtp+ssl:// with user:password@host:port, or consolemail://."
        ) from error
    tls, ssl = found.get("EMAIL_USE_TLS", False), found.get("EMAIL_USE_SSL", False)
    return {
        "EMAIL_BACKEND": found["EMAIL_BACKEND"],
        "EMAIL_HOST": found["EMAIL_HOST"] or "localhost",
        "EMAIL_PORT": found["EMAIL_PORT"] or (465 if ssl else 587 if tls else 25),
        "EMAIL_HOST_USER": found["EMAIL_HOST_USER"] or "",
        "EMAIL_HOST_PASSWORD": found["EMAIL_HOST_PASSWORD"] or "",
        "EMAIL_USE_TLS": tls,
        "EMAIL_USE_SSL": ssl,
    }


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}"
