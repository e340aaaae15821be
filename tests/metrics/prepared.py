"""python -m tests.metrics.prepared PROVIDER_URL: migrate and fill a scratch database; prints the keys as JSON.

`fakeai/m` is for everybody. `balanced` goes to `fakeai/first` and falls back to `spare/second`.
"""

import json
import sys
from decimal import Decimal

import django

INPUT, CACHED, OUTPUT = Decimal(2), Decimal("0.5"), Decimal(8)  # USD per million tokens, of every model


def prepare(provider_url: str) -> dict[str, str]:
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    from django_celery_results.models import TaskResult

    from tests import cast

    cast.make_power_levels()
    prices = {"input": str(INPUT), "output": str(OUTPUT), "cached": str(CACHED)}
    models = {}
    for slug, names in (("fakeai", ("m", "first")), ("spare", ("second",))):
        provider = cast.make_provider(slug, provider_url)
        cast.make_credential(provider)
        models |= {name: cast.make_model(provider, name, **prices) for name in names}
    cast.make_rule(models["first"], "balanced")
    cast.make_rule(models["second"], "balanced", is_fallback=True)
    TaskResult.objects.create(task_id="1", task_name="billing.tasks.reconcile_ledger", status="SUCCESS")
    tenant = cast.make_tenant("acme")
    limits = {"rich": {}, "poor": {"budget_limit_daily": Decimal(0)}, "slow": {"rate_limit_rpm": 0}}
    return {name: cast.make_key(tenant, name, **spec)[1] for name, spec in limits.items()}


if __name__ == "__main__":
    django.setup()
    sys.stdout.write(json.dumps(prepare(sys.argv[1])) + "\n")
