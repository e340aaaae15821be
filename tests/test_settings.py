"""Settings, secrets, the database URL: what the environment says is what happens, and weak secrets do not start."""

import base64
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import environ
import pytest
from django.core.exceptions import ImproperlyConfigured

from tollgate import secrets
from tollgate.environment import Environment, Pool, database, mail_server

ROOT = Path(__file__).resolve().parent.parent
NO_POOL = Pool(smallest=0, largest=0, wait_s=1)

GOOD = {
    "SECRET_KEY": "q3sVb0n6kT_9xWm2Lr8ZyHc5Jd1PfGu7Ea4RoXi-QwYtNvBhKjMlSzUpCgDa",
    "ENCRYPTION_KEY": base64.b64encode(bytes(range(200, 232))).decode(),
    "KEY_PEPPER": "1:" + base64.b64encode(bytes(range(100, 132))).decode(),
}


def start(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Load the settings in a process of their own, as a server would, and print what the tests look at."""
    show = (
        "import json; from django.conf import settings as s; print(json.dumps("
        "{'secret': s.SECRET_KEY, 'keys': [k.hex() for k in s.ENCRYPTION_KEYS], 'peppers': list(s.KEY_PEPPERS),"
        " 'engine': s.DATABASES['default']['ENGINE'], 'name': str(s.DATABASES['default']['NAME']), 'port': s.PORT}))"
    )
    bare = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}",
        "DJANGO_SETTINGS_MODULE": "tollgate.settings",
        "TOLLGATE_DATA_DIR": str(tmp_path / "data"),
    }
    return subprocess.run(
        [sys.executable, "-c", show],
        env={**bare, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_empty_environment_starts_on_sqlite_with_secrets_that_stay(tmp_path: Path) -> None:
    first, second = start(tmp_path), start(tmp_path)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout) == json.loads(second.stdout)
    assert json.loads(first.stdout)["name"] == str(tmp_path / "data" / "tollgate.sqlite3")
    assert (tmp_path / "data" / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_generated_secrets_are_kept_in_the_data_folder_when_the_database_is_postgresql(tmp_path: Path) -> None:
    seen = json.loads(start(tmp_path, DATABASE_URL="postgresql://u:p@db/x").stdout)
    assert seen["engine"] == "django.db.backends.postgresql"
    assert json.loads((tmp_path / "data" / "secrets.json").read_text())["SECRET_KEY"] == seen["secret"]


def test_processes_that_start_at_once_agree_on_the_secrets(tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        outputs = {run.stdout for run in pool.map(lambda _: start(tmp_path), range(6))}
    assert len(outputs) == 1
    assert "secret" in outputs.pop()


def test_a_secret_that_is_given_is_used_and_not_written_down(tmp_path: Path) -> None:
    seen = json.loads(start(tmp_path, SECRET_KEY="mine").stdout)
    assert seen["secret"] == "mine"
    assert set(json.loads((tmp_path / "data" / "secrets.json").read_text())) == {"ENCRYPTION_KEY", "KEY_PEPPER"}


def test_production_starts_with_good_secrets_and_writes_none(tmp_path: Path) -> None:
    run = start(tmp_path, TOLLGATE_ENV="production", ALLOWED_HOSTS="llm.acme.org", **GOOD)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["secret"] == GOOD["SECRET_KEY"]
    assert not (tmp_path / "data" / "secrets.json").exists()


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("SECRET_KEY", "", "is not set"),
        ("SECRET_KEY", "   ", "is not set"),
        ("SECRET_KEY", "short", "too short"),
        ("SECRET_KEY", "changeme" * 10, "placeholder"),
        ("SECRET_KEY", "django-insecure-" + GOOD["SECRET_KEY"], "placeholder"),
        ("SECRET_KEY", "this is only an example, put your own secret here please!", "placeholder"),
        ("SECRET_KEY", "a" * 64, "guess"),
        ("SECRET_KEY", "0123456789abcdef" * 4, "guess"),
        ("SECRET_KEY", "ab" * 20 + "abcabcabcabc", "guess"),
        ("ENCRYPTION_KEY", "", "is not set"),
        ("ENCRYPTION_KEY", ",", "holds no key"),
        ("ENCRYPTION_KEY", "not base64!", "is not base64"),
        ("ENCRYPTION_KEY", b64(b"x" * 16), "must be 32 bytes"),
        ("ENCRYPTION_KEY", b64(b"\0" * 32), "guess"),
        ("ENCRYPTION_KEY", b64(b"changemechangemechangemechangeme"), "placeholder"),
        ("ENCRYPTION_KEY", b64(b"correct horse battery staple 12!"), "is text"),
        ("ENCRYPTION_KEY", f"{GOOD['ENCRYPTION_KEY']},{GOOD['ENCRYPTION_KEY']}", "twice"),
        ("KEY_PEPPER", "", "is not set"),
        ("KEY_PEPPER", b64(bytes(range(32))), "id:base64"),
        ("KEY_PEPPER", f"1:{b64(bytes(range(32)))},1:{b64(bytes(range(50, 82)))}", "twice"),
        ("KEY_PEPPER", "1:" + b64(b"\1" * 32), "guess"),
        ("KEY_PEPPER", "1:" + GOOD["ENCRYPTION_KEY"], "used again"),
    ],
)
def test_production_refuses_a_weak_secret_naming_it_and_the_command(
    tmp_path: Path, name: str, value: str, problem: str
) -> None:
    with pytest.raises(ImproperlyConfigured) as refusal:
        secrets.load({**GOOD, name: value.strip()}, folder=tmp_path, production=True)
    assert str(refusal.value).startswith(name)
    assert problem in str(refusal.value)
    assert secrets.COMMANDS[name] in str(refusal.value)
    assert len(value) < 10 or value not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_production_refuses_the_secret_key_used_as_encryption_key(tmp_path: Path) -> None:
    key = bytes(range(7, 39))
    shared = b64(key) + "abcdefghij"
    with pytest.raises(ImproperlyConfigured, match="ENCRYPTION_KEY is the SECRET_KEY used again"):
        secrets.load({**GOOD, "SECRET_KEY": shared, "ENCRYPTION_KEY": b64(key)}, folder=tmp_path, production=True)


@pytest.mark.parametrize("name", ["SECRET_KEY", "ENCRYPTION_KEY", "KEY_PEPPER"])
def test_the_command_in_the_message_makes_a_secret_that_is_accepted(tmp_path: Path, name: str) -> None:
    made = subprocess.run(secrets.COMMANDS[name], shell=True, capture_output=True, text=True, check=True).stdout.strip()
    found = secrets.load({**GOOD, name: made}, folder=tmp_path, production=True)
    assert made in {found.secret_key, b64(found.encryption_keys[0]), "1:" + b64(found.peppers["1"])}


def test_a_generated_secret_would_do_for_production(tmp_path: Path) -> None:
    secrets.refuse_weak(secrets.load({}, folder=tmp_path, production=False))


def test_the_first_key_and_the_first_pepper_come_first() -> None:
    keys = [bytes(range(start, start + 32)) for start in (1, 50, 90)]
    assert secrets.parse_encryption_keys(",".join(b64(key) for key in keys)) == tuple(keys)
    peppers = secrets.parse_peppers(f"2:{b64(keys[1])}, 1:{b64(keys[0])}")
    assert list(peppers.items()) == [("2", keys[1]), ("1", keys[0])]


def test_secrets_do_not_show_in_their_repr(tmp_path: Path) -> None:
    assert repr(secrets.load(GOOD, folder=tmp_path, production=True)) == "Secrets()"


def test_a_broken_secrets_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{half")
    with pytest.raises(ImproperlyConfigured, match="Restore it from a backup"):
        secrets.load({}, folder=tmp_path, production=False)
    assert (tmp_path / "secrets.json").read_text() == "{half"


def test_a_data_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ImproperlyConfigured, match="TOLLGATE_DATA_DIR"):
        secrets.load({}, folder=tmp_path / "file" / "data", production=False)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PORT": "http"}, "PORT is 'http'; it must be a whole number"),
        ({"PORT": "70000"}, "PORT is 70000; it must be between 1 and 65535"),
        ({"TOLLGATE_ENV": "prod"}, "TOLLGATE_ENV is 'prod'"),
        ({"UPSTREAM_IDLE_TIMEOUT_S": "nan"}, "UPSTREAM_IDLE_TIMEOUT_S is nan"),
        ({"DATABASE_URL": "mysql://u:p@db/x"}, "DATABASE_URL must begin with"),
        ({"TOLLGATE_ENV": "production", **GOOD}, "ALLOWED_HOSTS is not set"),
        ({"TOLLGATE_ENV": "production", "ALLOWED_HOSTS": "a.org", "DEBUG": "1", **GOOD}, "DEBUG cannot be on"),
        ({"TOLLGATE_ENV": "production", "ALLOWED_HOSTS": "a.org", "METRICS_TOKEN": "abc", **GOOD}, "METRICS_TOKEN"),
        ({"TOLLGATE_ENV": "production", "ALLOWED_HOSTS": "a.org"}, "SECRET_KEY is not set"),
    ],
)
def test_a_setting_that_does_not_fit_names_the_variable(
    tmp_path: Path, environment: dict[str, str], message: str
) -> None:
    run = start(tmp_path, **environment)
    assert run.returncode != 0
    assert f"ImproperlyConfigured: {message}" in run.stderr


def test_a_variable_set_to_nothing_counts_as_not_set(tmp_path: Path) -> None:
    seen = json.loads(start(tmp_path, PORT="", DATABASE_URL="", SECRET_KEY="").stdout)
    assert seen["port"] == 8084
    assert seen["engine"] == "django.db.backends.sqlite3"
    assert len(seen["secret"]) > 50


@pytest.mark.parametrize("value", ["$HOME", "$", "$$x", "\\$x", "a$b", "\\", "a\\$b$"])
def test_a_dollar_in_a_value_is_a_dollar(value: str) -> None:
    assert Environment({"A": value, "HOME": "elsewhere"}).text("A") == value


def test_the_real_environment_wins_over_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("TG_A=file\nTG_B=file\n")
    monkeypatch.setenv("TG_A", "real")
    monkeypatch.delenv("TG_B", raising=False)
    environ.Env.read_env(tmp_path / ".env")
    seen = (Environment().text("TG_A"), Environment().text("TG_B"))
    monkeypatch.delenv("TG_B")
    assert seen == ("real", "file")


def test_every_variable_is_explained_in_env_example() -> None:
    source = (ROOT / "platform" / "tollgate" / "settings.py").read_text()
    read = set(re.findall(r'env\.\w+\(\s*"([A-Z0-9_]+)"', source)) | {"SECRET_KEY", "ENCRYPTION_KEY", "KEY_PEPPER"}
    explained = set(re.findall(r"^#([A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert read - explained == set()
    assert {name for name in explained - read if not name.endswith("_API_KEY")} == set()


def test_a_postgresql_url_may_name_a_socket_folder_and_loses_what_would_break() -> None:
    url = "postgresql://me@/tollgate?host=/run/postgresql&sslmode=disable&pool=true&conn_max_age=60"
    config = database(url, pool=Pool(smallest=2, largest=8, wait_s=1))
    assert (config["HOST"], config["NAME"], config["USER"], config["CONN_MAX_AGE"]) == (
        "/run/postgresql",
        "tollgate",
        "me",
        0,
    )
    assert config["OPTIONS"]["sslmode"] == "disable"
    assert config["OPTIONS"]["connect_timeout"] == 2
    assert config["OPTIONS"]["pool"] == {"min_size": 2, "max_size": 8, "timeout": 1, "reconnect_timeout": 3.0}
    assert "pool" not in database(url, pool=NO_POOL)["OPTIONS"]


def test_a_password_may_hold_any_character() -> None:
    config = database("postgresql://u:%24p%40ss%2Fw%25@db:6432/x", pool=NO_POOL)
    assert (config["PASSWORD"], config["HOST"], config["PORT"]) == ("$p@ss/w%", "db", 6432)


def test_sqlite_waits_its_turn_and_survives_a_power_cut(tmp_path: Path) -> None:
    config = database(f"sqlite:///{tmp_path}/x.sqlite3", pool=NO_POOL)
    assert config["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert config["OPTIONS"]["timeout"] == 5
    assert "journal_mode=WAL" in config["OPTIONS"]["init_command"]
    assert "synchronous=FULL" in config["OPTIONS"]["init_command"]


@pytest.mark.parametrize(
    ("url", "backend", "where"),
    [
        ("consolemail://", "console", ("localhost", 25, "", "", False, False)),
        ("smtp://localhost:25", "smtp", ("localhost", 25, "", "", False, False)),
        ("smtp+tls://me:p%40ss@mail.acme.org", "smtp", ("mail.acme.org", 587, "me", "p@ss", True, False)),
        ("smtp+ssl://me:p@mail.acme.org", "smtp", ("mail.acme.org", 465, "me", "p", False, True)),
        ("smtp+tls://me:p@mail.acme.org:2525", "smtp", ("mail.acme.org", 2525, "me", "p", True, False)),
    ],
)
def test_a_mail_server_s_url_becomes_its_settings(url: str, backend: str, where: tuple[object, ...]) -> None:
    found = mail_server(url)
    names = ("HOST", "PORT", "HOST_USER", "HOST_PASSWORD", "USE_TLS", "USE_SSL")
    assert found["EMAIL_BACKEND"] == f"django.core.mail.backends.{backend}.EmailBackend"
    assert tuple(found[f"EMAIL_{name}"] for name in names) == where


@pytest.mark.parametrize("url", ["pigeon://me:hunter2@x", "smtp://me:hunter2@mail:port", "hunter2"])
def test_a_mail_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^EMAIL_URL must be") as caught:
        mail_server(url)
    assert "hunter2" not in str(caught.value)
