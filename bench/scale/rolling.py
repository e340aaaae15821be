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
    days = time.perf_counter() - began
    months = rollup.roll_up_months(now=datetime.now(UTC))
    said = {
        "days": len(rows),
        "seconds": round(days, 1),
        "months": len(months),
        "seconds of months": round(time.perf_counter() - began - days, 1),
    }
    sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    main()
