"""What routing costs by itself: `llm.routing.plan` over 100 models at three providers each, with 300 rules.

python -m bench.planning SECONDS      prints {"what is asked for": us per plan, ...} as JSON
"""

import json
import os
import sys
import time
import uuid
from dataclasses import replace
from typing import Any

MODELS, DEPLOYMENTS = 100, 3
BATCH = 100


def main() -> None:
    """CPU time in the fastest of all batches: what the code costs while its caches are warm."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tollgate.settings")
    import django  # after the setting above

    django.setup()
    from llm.routing.plan import plan  # needs Django to be set up
    from tests.llm import routing_world as made  # likewise

    providers = [made.provider(f"p{number}") for number in range(DEPLOYMENTS)]
    models = [
        made.model(provider, f"m{number}", family=f"m{number}") for number in range(MODELS) for provider in providers
    ]
    rules = [made.rule(model, priority=10 + number % 7) for number, model in enumerate(models)]
    world = made.snapshot(models, rules)
    asked = {
        "power level": made.request("balanced", input_tokens=60, text="What is the capital of Portugal?"),
        "model": made.request("m50", input_tokens=60),
        "priority": made.request(priority="cost", input_tokens=60),
    }

    def once(request: Any) -> float:
        requests = [replace(request, request_id=uuid.uuid4()) for _ in range(BATCH)]
        began = time.thread_time()
        for one in requests:
            plan(world, made.CALLER, made.EMPTY, one, state=made.CALM, now=made.NOW)
        return (time.thread_time() - began) / BATCH * 1e6

    until = time.perf_counter() + float(sys.argv[1])
    best: dict[str, float] = {}
    while not best or time.perf_counter() < until:
        for name, request in asked.items():
            best[name] = min(best.get(name, float("inf")), once(request))
    sys.stdout.write(json.dumps({name: round(us, 1) for name, us in best.items()}) + "\n")


if __name__ == "__main__":
    main()
