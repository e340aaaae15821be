"""A pytest plugin that decides the database before Django reads its settings.

`--db=postgres` (the default) runs on a real PostgreSQL, `--db=sqlite` on SQLite. With xdist only the controller runs
this: the workers inherit its environment, share its server, and get a database each from pytest-django.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.postgres import database_url

_HERE = Path(__file__).parent
# About bytes on the wires and arithmetic, thousands of times, and what a browser shows of both; the ledger behind them
# is what all other tests try on both databases.
NOT_ON_POSTGRES = [
    *(_HERE / name for name in ("matrix", "wires", "browser", "fakes")),
    *(_HERE / "property" / f"test_{name}.py" for name in ("pricing", "pricing_by_the_feed", "routing_properties")),
    *sorted((_HERE / "llm").glob("test_provider_*.py")),
    *sorted((_HERE / "llm").glob("test_recordings_*.py")),
]
NOT_ON_SQLITE = [_HERE / "bench"]  # it measures on PostgreSQL


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--db`."""
    parser.addoption(
        "--db", choices=("postgres", "sqlite"), default="postgres", help="the database to run the tests on"
    )


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """Before pytest-django loads the settings: a wrapper runs ahead of every plain hook."""
    os.environ["TOLLGATE_ENV"] = "test"
    # A busy machine makes every server late: only the tests of overload refuse for it.
    os.environ.setdefault("MAX_LOOP_DELAY_S", "10")
    if not os.environ.get("TOLLGATE_DATA_DIR"):
        folder = Path(tempfile.mkdtemp(prefix="tollgate-test-"))
        os.environ["TOLLGATE_DATA_DIR"] = str(folder)  # shared by the workers and by servers that tests start
        early_config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    if early_config.known_args_namespace.db == "sqlite":
        os.environ.pop("DATABASE_URL", None)
    else:
        os.environ["DATABASE_URL"] = database_url()
    return (yield)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of a run of the whole suite on one database, leave out what its run on the other proves as well."""
    whole = [Path(one).name for one in config.args] == ["tests"]
    elsewhere = NOT_ON_POSTGRES if os.environ.get("DATABASE_URL") else NOT_ON_SQLITE
    return True if whole and collection_path in elsewhere else None


def pytest_report_header() -> str:
    """Say which database it is: a suite that silently ran on the wrong one proves nothing."""
    return f"database: {'PostgreSQL' if os.environ.get('DATABASE_URL') else 'SQLite'}"
