"""Who the rows belong to: 60 tenants of very different sizes, their members, keys, configs, own provider keys.

python -m bench.scale.people      makes them in the scratch database, with a wheel of who asks what; prints JSON
"""

import json
import sys
from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Any

TENANTS, LARGEST, FALLS = 60, 0.30, 1.6  # the first asks 30 % of all; the others fall off as 1 / rank ^ 1.6
SLOTS = 100_000
MODELS = 300
ZONES = ("UTC", "Europe/Zurich", "America/New_York", "Asia/Tokyo")
LEVELS = ("eco", "balanced", "precision", "")
TASKS = ("chat", "code", "extraction", "rag", "general", "translation")
COLUMNS = (
    "slot, tenant_id, timezone, user_id, users, key_id, key_name, config_id, config_name, user_key_id, provider_id,"
    " provider_slug, model_id, model_name, power_level, task_type, used_byok"
)


def sizes() -> list[float]:
    """The share of all requests that each tenant has."""
    rest = [1 / rank**FALLS for rank in range(2, TENANTS + 1)]
    return [LARGEST, *((1 - LARGEST) * one / sum(rest) for one in rest)]


class Town:
    """The tenants and what they ask; the same each time."""

    def __init__(self) -> None:
        from llm.models import LLMModel  # Django has to be set up first

        self.random = Random(11)
        active = LLMModel.objects.filter(is_active=True).select_related("provider").order_by("pk")
        self.models = list(active)[:MODELS]

    def tenant(self, number: int, share: float) -> dict[str, Any]:
        """One tenant: its row, its keys, and lists of what they ask, each with a weight."""
        from llm.models import LLMConfig
        from tests import cast

        rng = self.random
        tenant = cast.make_tenant(
            f"scale-{number:02d}",
            tier="enterprise",
            timezone=ZONES[number % len(ZONES)],
            budget_limit_daily="1000000",
            budget_limit_monthly="10000000",
        )
        configs = [LLMConfig.objects.create(tenant=tenant, name=name) for name in ("default", "batch", "bot")]
        favourites = rng.sample(self.models, min(len(self.models), max(6, round(share * 400))))
        own = {model.provider_id: model.provider for model in favourites[:2]} if number % 3 == 0 else {}
        credentials = {
            pk: cast.make_credential(provider, f"sk-scale-{number}-0123456789", tenant, is_active=False)
            for pk, provider in own.items()
        }
        keys, uses = [], []
        for place in range(max(2, min(60, round(share * 300)))):
            key, secret = cast.make_key(
                tenant, name=f"key {place}", budget_limit_daily="100000", budget_limit_monthly="1000000"
            )
            keys.append((key, secret))
            weight = share / (place + 1)
            # A third belong to a member, a third to applications that name their users, a third to such as do not.
            user, users = [(str(key.pk), 1), ("", round(20 + 2000 * share)), ("", 0)][place % 3]
            uses += [
                (weight / (nth + 1), self._use(tenant, configs, credentials, (key, user, users), favourites))
                for nth in range(rng.randint(2, 6))
            ]
        return {"tenant": tenant, "keys": keys, "uses": uses}

    def _use(self, tenant: Any, configs: Any, credentials: Any, asker: Any, favourites: Any) -> tuple[Any, ...]:
        key, user, users = asker
        config, model = self.random.choice(configs), self.random.choice(favourites)
        own = credentials.get(model.provider_id)
        level, task = self.random.choice(LEVELS), self.random.choice(TASKS)
        return (
            tenant.pk, tenant.timezone, user, users, key.pk, key.name, config.pk, config.name, own and own.pk,
            model.provider_id, model.provider.slug, model.pk, model.model_id, level, task, own is not None,
        )  # fmt: skip


def wheel(town: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """SLOTS rows of who asks what: a number drawn evenly lands on each as often as its share says."""
    slot = 0
    for made, share in zip(town, sizes(), strict=True):
        whole = sum(weight for weight, _ in made["uses"])
        for weight, use in made["uses"]:
            for _ in range(max(1, round(SLOTS * share * weight / whole))):
                yield (slot, *use)
                slot += 1


def session() -> str:
    """The session of a superuser, logged in to the admin."""
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client()
    client.force_login(User.objects.create_superuser("scale"))
    return client.cookies["sessionid"].value


def main() -> None:
    import django

    django.setup()
    from django.db import connection, transaction

    with transaction.atomic():
        town = Town()
        made = [town.tenant(number, share) for number, share in enumerate(sizes())]
    rows = wheel(made)
    with connection.cursor() as cursor:
        cursor.execute(WHEEL)
        with cursor.copy(f"COPY scale_wheel ({COLUMNS}) FROM STDIN") as copy:
            while batch := list(islice(rows, 1000)):
                for row in batch:
                    copy.write_row(row)
        cursor.execute(TEMPLATES)
        cursor.execute(COPIES)
        cursor.execute("ANALYZE scale_wheel, scale_templates")
    said = [
        {
            "id": str(one["tenant"].pk),
            "slug": one["tenant"].slug,
            "keys": [{"id": str(key.pk), "secret": secret} for key, secret in one["keys"]],
        }
        for one in made
    ]
    sys.stdout.write(json.dumps({"tenants": said, "session": session()}) + "\n")


WHEEL = """
CREATE UNLOGGED TABLE scale_wheel (slot int PRIMARY KEY, tenant_id uuid, timezone text, user_id text, users int,
 key_id uuid, key_name text, config_id uuid, config_name text, user_key_id uuid, provider_id uuid, provider_slug text,
 model_id uuid, model_name text, power_level text, task_type text, used_byok boolean)
"""

# What demo_data booked through the ledger: each row of the ten million is one of these, of another tenant and moment.
TEMPLATES = """
CREATE UNLOGGED TABLE scale_templates AS
SELECT row_number() OVER (PARTITION BY used_byok ORDER BY id) - 1 AS n, u.* FROM llm_usage_logs u
"""

COPIES = """
ALTER TABLE scale_wheel ADD copies int;
UPDATE scale_wheel w SET copies = (SELECT count(*) FROM scale_templates t WHERE t.used_byok = w.used_byok)
"""

if __name__ == "__main__":
    main()
