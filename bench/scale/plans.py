"""The plans of slow queries: what missed its goal is asked once more inside Django, and each query explained.

python -m bench.scale.plans FILE      FILE: a JSON list of [name, path, headers]
"""

import json
import sys
from pathlib import Path
from typing import Any

SLOW_MS = 20


def explain(made: Any, missed: Any) -> None:
    """Print the plan of every query of the questions that missed which took more than SLOW_MS."""
    file = Path(made.books.folder.name) / "missed.json"
    file.write_text(json.dumps([one.asked for one in missed]))
    print(json.loads(made.books.program("-m", "bench.scale.plans", str(file))))


def main() -> None:
    import django

    django.setup()
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    said = []
    for name, path, headers in json.loads(Path(sys.argv[1]).read_text()):
        with CaptureQueriesContext(connection) as captured:
            cookie = {"HTTP_COOKIE": headers["cookie"]} if "cookie" in headers else {}
            Client(headers=headers, HTTP_HOST="127.0.0.1", **cookie).get(path)
        said.append(f"\n=== {name}: {path}")
        for query in captured.captured_queries:
            if float(query["time"]) * 1000 > SLOW_MS and query["sql"].startswith(("SELECT", "(SELECT")):
                with connection.cursor() as cursor:
                    cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS) {query['sql']}")
                    plan = [row[0] for row in cursor.fetchall()]
                said += [f"{query['time']} s: {query['sql'][:600]}", *plan]
    sys.stdout.write(json.dumps("\n".join(said)) + "\n")


if __name__ == "__main__":
    main()
