"""What dialects other than OpenAI's do first with a chat request."""

from collections.abc import Mapping
from typing import Any

from llm import service_tiers
from llm.calls import Call
from llm.errors import InvalidRequest
from llm.providers.openai import unsupported


def taken(call: Call) -> tuple[dict[str, Any], list[str]]:
    """(what was given and the model takes, the names of what was given and it refuses)."""
    refused = unsupported(call.target.model.quirks)
    given = {name: value for name, value in call.body.items() if value is not None and name not in refused}
    return given, [name for name in refused if call.body.get(name) is not None]


def service_tier(call: Call, given: Mapping[str, Any], dropped: list[str]) -> str | None:
    """What to ask the provider for, where the model has prices of other tiers than standard. Elsewhere there is nothing
    to choose: what the client said is dropped."""
    said = given.get("service_tier")
    found = service_tiers.word(call.target, said) if call.target.card.services else None
    if said is not None and not found:
        dropped.append("service_tier")
    return found


def refuse_choices(given: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for more than one choice, where the API gives one."""
    if given.get("n", 1) != 1:
        raise InvalidRequest("This model's API gives one choice. Ask for `n` = 1.", param="n")


def refuse_functions(given: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for what OpenAI had before `tools`."""
    for name in ("functions", "function_call"):
        if given.get(name):
            raise InvalidRequest(f"`{name}` is not supported by this model. Use `tools`.", param=name)
