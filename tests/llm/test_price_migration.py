"""The migration to the review queue, with prices in the tables: on both databases."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone


def around() -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The migration before it, and the migration itself, whatever its number."""
    graph = MigrationExecutor(connection).loader.graph
    this = next(key for key in graph.nodes if key[0] == "llm" and key[1].endswith("_price_review"))
    before = next(one.key for one in graph.node_map[this].parents if one.key[0] == "llm")
    return [before], [this]


def migrate(target: list[tuple[str, str]]) -> Any:
    """The models as of a migration."""
    executor = MigrationExecutor(connection)
    executor.migrate(target)
    return MigrationExecutor(connection).loader.project_state(target).apps


@pytest.mark.django_db(transaction=True)
def test_prices_keep_their_places_and_what_was_proposed_is_in_the_queue() -> None:
    grace = User.objects.create_user("grace")
    latest = MigrationExecutor(connection).loader.graph.leaf_nodes("llm")
    before, after = around()
    try:
        old = migrate(before)
        now = timezone.now()
        provider = old.get_model("llm", "LLMProvider").objects.create(slug="v", number=1, base_url="http://x/v1")
        model = old.get_model("llm", "LLMModel").objects.create(
            provider=provider, model_id="m", number=1, context_window=1
        )
        version = old.get_model("llm", "PriceVersion")
        spans = (
            (1, "superseded", now - timedelta(9), now - timedelta(3)),
            (2, "superseded", now - timedelta(3), now + timedelta(3)),
            (3, "active", now + timedelta(3), None),
            (4, "proposed", now, None),
            (5, "proposed", now, None),
        )
        for number, status, since, until in spans:
            version.objects.create(
                model=model, number=number, status=status, effective_from=since, effective_to=until,
                recorded_at=now, source="staff", author="grace (staff)",
            )  # fmt: skip
        new = migrate(after)
        found = new.get_model("llm", "PriceVersion").objects.order_by("number")
        assert list(found.values_list("number", "status")) == [
            (1, "superseded"), (2, "active"), (3, "approved"), (4, "cancelled"), (5, "proposed"),
        ]  # fmt: skip
        waiting = new.get_model("llm", "PriceProposal").objects.get()
        assert (waiting.version.number, waiting.base.number, waiting.state, waiting.proposed_by_id) == (
            5, 3, "pending", grace.pk,
        )  # fmt: skip
        new.get_model("llm", "LLMModel").objects.all().delete()
    finally:
        migrate(latest)
