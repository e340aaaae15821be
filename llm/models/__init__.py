"""The rows of the catalog, of routing and of provider keys."""

from llm.models.catalog import LLMModel, LLMProvider
from llm.models.configs import LLMConfig
from llm.models.corrections import CorrectionItem, CorrectionRun
from llm.models.credentials import ProviderCredential
from llm.models.health import LLMBreaker, ProviderHealthCheck
from llm.models.overrides import OverrideComponent, PriceOverride
from llm.models.price_review import PricePolicy, PriceProposal, PriceTask
from llm.models.prices import PriceComponent, PriceVersion
from llm.models.routing import LLMRoutingRule, PowerLevelPolicy, RouteRefusal

__all__ = [
    "CorrectionItem",
    "CorrectionRun",
    "LLMBreaker",
    "LLMConfig",
    "LLMModel",
    "LLMProvider",
    "LLMRoutingRule",
    "OverrideComponent",
    "PowerLevelPolicy",
    "PriceComponent",
    "PriceOverride",
    "PricePolicy",
    "PriceProposal",
    "PriceTask",
    "PriceVersion",
    "ProviderCredential",
    "ProviderHealthCheck",
    "RouteRefusal",
]
