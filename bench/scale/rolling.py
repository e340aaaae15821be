"""python -m bench.scale.rolling      the project's own roll-up of every day, and what each part of it took, as JSON"""

import json
import sys
import time
from datetime import UTC, datetime


def main() -> None:
    import django

    django.setup()
    from billing import rollup

    began = time.perf_counter()
    rows = rollup.roll_up(now=datetime.now(UTC))
    took = time.perf_counter() - began
    sys.stdout.write(json.dumps({"seconds": round(took, 1), "days": len(rows), "rows": sum(rows.values())}) + "\n")


if __name__ == "__main__":
    main()
