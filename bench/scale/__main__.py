"""python -m bench.scale [--rows N] [--keep] [--explain]

A year of usage rows in a scratch database on PostgreSQL, and how long each report, list and page takes on them.
`make scale` runs it; bench/README.md says how to read it.
"""

import argparse
import json
import os
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.scale import asking, fill, plans
from bench.scale.fill import say
from bench.world import bootstrap, serving
from tests.faults.books import Books, connect
from tests.postgres import database_url

TEMPLATES = 4000


@dataclass
class Made:
    """The scratch database, filled."""

    books: Books
    people: dict[str, Any]
    staff: str
    facts: dict[str, Any] = field(default_factory=dict)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=(__doc__ or "").splitlines()[2])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--keep", action="store_true", help="leave the database there, and say its URL")
    parser.add_argument("--explain", action="store_true", help="the plan of every query that took more than 20 ms")
    parser.add_argument("--fill-only", action="store_true", help="with --keep: ask nothing yet")
    parser.add_argument("--use", metavar="FILE", help="what --keep left: measure it again, fill nothing")
    parser.add_argument("--only", default="", help="questions with this in their name")
    chosen = parser.parse_args()
    if chosen.keep and not os.environ.get("DATABASE_URL"):
        parser.error("--keep needs DATABASE_URL: a server that is brought along goes with its files when this ends.")
    return chosen


def filled(books: Books, rows: int) -> Made:
    """Everything in it: catalog, people, rows, roll-ups, statistics."""
    staff = bootstrap(books)["staff_api_key"]
    done = books.manage("demo_data", "--requests", str(min(rows, TEMPLATES)), "--days", "40")
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-3000:])
    people = program(books, "bench.scale.people")
    with connect(books.url) as database:
        filling = fill.Filling(database, rows, say)
        filling.run()
        with filling.timed("VACUUM ANALYZE"):
            database.execute("VACUUM ANALYZE")
    with filling.timed("roll-ups"):
        rolled = program(books, "bench.scale.rolling")
    with connect(books.url) as database:
        database.execute("VACUUM ANALYZE")
        sizes = database.execute(SIZES).fetchall()
    facts = {"seconds": filling.took, "rolled": rolled, "sizes": {name: size for name, *size in sizes}}
    return Made(books, people, staff, facts)


def program(books: Books, module: str, *arguments: str) -> Any:
    """A program of ours in the scratch database's environment; the JSON that it prints."""
    return json.loads(books.program("-m", module, *arguments))


SIZES = """
SELECT relname, n_live_tup, pg_table_size(relid), pg_indexes_size(relid) FROM pg_stat_user_tables
WHERE pg_total_relation_size(relid) > 5000000 ORDER BY pg_total_relation_size(relid) DESC
"""


def main() -> None:
    chosen = options()
    began = time.monotonic()
    with ExitStack() as stack:
        books = Books(database_url(durable=True))
        if chosen.use:
            kept = json.loads(Path(chosen.use).read_text())
            books.name, books.url = kept["name"], kept["url"]
            shutil.copytree(Path(chosen.use).with_suffix(""), Path(books.folder.name) / "var")  # its secrets
            made = Made(books, kept["people"], kept["staff"], kept["facts"])
        else:
            if chosen.keep:
                books.__enter__()
            else:
                stack.enter_context(books)
            made = filled(books, chosen.rows)
        if chosen.keep and not chosen.use:
            kept = {
                "name": books.name,
                "url": books.url,
                "people": made.people,
                "staff": made.staff,
                "facts": made.facts,
            }
            file = Path(f"var/{books.name}.json")
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(kept))
            shutil.copytree(Path(books.folder.name) / "var", file.with_suffix(""))
            say(f"Kept: {books.url}; measure it again with --use {file}")
        say(f"filled after {time.monotonic() - began:.0f} s; {json.dumps(made.facts, indent=1)}")
        if chosen.fill_only:
            return
        port = stack.enter_context(serving(books, workers=1))
        missed = asking.report(made, port, chosen.only)
        if chosen.explain:
            plans.explain(made, missed)
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
