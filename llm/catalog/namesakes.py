"""What we know of a model that another provider lists: the rows of our catalog that are the same model, and its price.

A vendor's prefix tells who makes or serves it: ``openai/gpt-4o`` is our row openai/gpt-4o, whatever others charge for
theirs. Without one every row of that name counts, and they must agree: a price is copied or it is not, never guessed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from llm.catalog import prices
from llm.models import LLMModel, LLMProvider

# LiteLLM's and OpenRouter's names for vendors, where they are not our slugs.
_VENDORS: Mapping[str, str] = {
    "azure": "azure-openai",
    "cohere_chat": "cohere",
    "dashscope": "alibaba",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "mistralai": "mistral",
    "moonshotai": "moonshot",
    "nvidia_nim": "nvidia",
    "together_ai": "together",
    "vertex_ai": "vertex-ai",
    "x-ai": "xai",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """A price to copy, and where it is from; or none, and why."""

    components: Sequence[prices.Component] = ()
    source: str = ""
    why_not: str = ""


class Namesakes:
    """The catalog's rows by the names that other providers may have for them. Costs three queries."""

    def __init__(self, *, without: LLMProvider, now: datetime) -> None:
        self._now = now
        self._by_reference: dict[tuple[str, str], LLMModel] = {}
        self._by_id: dict[str, list[LLMModel]] = defaultdict(list)
        rows = LLMModel.objects.exclude(provider=without).select_related("provider")
        for row in prices.with_prices(rows.order_by("provider__slug")):
            self._by_reference[row.provider.slug, row.model_id] = row
            self._by_id[row.model_id].append(row)
        self._slugs = {slug for slug, _ in self._by_reference}

    def of(self, name: str) -> list[LLMModel]:
        """The rows that are the model called so; none if we do not know it."""
        slug, rest = self._split(name)
        exact = self._by_reference.get((slug, rest))
        if exact is not None:
            return [exact]
        return self._by_id.get(name) or (self._by_id.get(rest, []) if slug else [])

    def price(self, names: Iterable[str], *, kind: str) -> Price:
        """The one price of whatever may answer under these names, all of which must be known to have it."""
        found: list[tuple[str, frozenset[prices.Component]]] = []
        for name in names:
            known = self._cards(self.of(name))
            if not known:
                return Price(why_not=_unknown(name))
            found += known
        if len({card for _, card in found}) != 1:
            sellers = " and ".join(dict.fromkeys(source for source, _ in found))
            return Price(why_not=f"Its price differs: see {sellers}."[:200])
        source, card = found[0]
        if not {"input", *(("output",) if kind == "chat" else ())} <= {
            one.meter for one in card if not one.above_tokens
        }:
            return Price(why_not=f"The price of {source} has no input or no output.")
        return Price(components=sorted(card, key=lambda one: (one.above_tokens, one.meter)), source=source)

    def _cards(self, rows: Iterable[LLMModel]) -> list[tuple[str, frozenset[prices.Component]]]:
        versions = [(row.reference, prices.version_at(row, self._now)) for row in rows]
        return [(name, frozenset(prices.components_of(one))) for name, one in versions if one is not None]

    def _split(self, name: str) -> tuple[str, str]:
        """(our slug of the vendor, the rest) of a name with a vendor's prefix that we know; else ("", the name)."""
        vendor, _, rest = name.partition("/")
        slug = _VENDORS.get(vendor, vendor)
        return (slug, rest) if rest and slug in self._slugs else ("", name)


def _unknown(name: str) -> str:
    return f"The catalog has no price of {name[:80]}." if name else "The proxy does not say what answers."
