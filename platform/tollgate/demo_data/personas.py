"""The tenants of the demo data: who they are, when they work, and what they ask of which models."""

from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "demo-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One kind of request. Tokens are medians; `share` is of the tenant's requests, `streamed` of this kind.

    `models` weighs the catalog's models for it; the next in order is the fallback. `level` "" names the model itself.
    """

    task: str
    level: str
    models: Mapping[str, int]
    prompt: int
    completion: int
    share: int
    key: str
    streamed: float = 0.7
    cached: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Persona:
    """One tenant. `keys` name the member they belong to, None for an application whose users are its customers.

    `grows` is the factor of its traffic between the first and the last day; `weekend` the share of a working day that
    a Saturday has. `month_used` is how much of its monthly budget is to be used up, in percent.
    """

    slug: str
    name: str
    tier: str
    timezone: str
    share: int
    uses: tuple[Use, ...]
    keys: Mapping[str, str | None]
    byok: frozenset[str] = frozenset()
    markup_percent: int = 0
    users: int = 25
    weekend: float = 0.35
    grows: float = 1.3
    month_used: int | None = None
    day_used: int | None = None


GPT, GPT_MINI, GPT_BEST = "openai/gpt-5.1", "openai/gpt-5-mini", "openai/gpt-5.4"
SONNET, HAIKU, OPUS = "anthropic/claude-sonnet-4-6", "anthropic/claude-haiku-4-5-20251001", "anthropic/claude-opus-4-8"
FLASH, LITE, PRO = "google/gemini-2.5-flash", "google/gemini-2.5-flash-lite", "google/gemini-2.5-pro"

PERSONAS = (
    Persona(
        slug="demo-northwind",
        name="Northwind Support",
        tier="professional",
        timezone="Europe/Zurich",
        share=30,
        markup_percent=12,
        users=60,
        grows=1.6,
        month_used=86,
        keys={"support-bot": None, "ticket-triage": None, "playground": "demo-ada"},
        uses=(
            Use(task="chat", level="balanced", models={GPT_MINI: 55, HAIKU: 30, FLASH: 15}, prompt=900, completion=240,
                share=55, key="support-bot", streamed=0.95, cached=0.5),
            Use(task="extraction", level="eco", models={"openai/gpt-4o-mini": 60, LITE: 40}, prompt=650, completion=90,
                share=35, key="ticket-triage", streamed=0.0),
            Use(task="general", level="precision", models={SONNET: 70, GPT_BEST: 30}, prompt=1800, completion=600,
                share=10, key="playground"),
        ),
    ),
    Persona(
        slug="demo-pixelforge",
        name="Pixel Forge",
        tier="professional",
        timezone="America/Los_Angeles",
        share=24,
        markup_percent=10,
        weekend=0.5,
        grows=2.0,
        month_used=97,
        keys={"ide-plugin": "demo-grace", "code-review": "demo-linus", "ci": None},
        users=6,
        uses=(
            Use(task="code", level="precision", models={SONNET: 60, GPT_BEST: 25, OPUS: 15}, prompt=5200,
                completion=900, share=45, key="ide-plugin", streamed=0.98, cached=0.7),
            Use(task="code", level="balanced", models={"deepseek/deepseek-v4-pro": 50, GPT: 50}, prompt=3800,
                completion=500, share=35, key="code-review", streamed=0.1),
            Use(task="code", level="eco", models={"mistral/codestral-2508": 100}, prompt=1500, completion=120,
                share=20, key="ci", streamed=0.0),
        ),
    ),
    Persona(
        slug="demo-lumen",
        name="Lumen Legal",
        tier="enterprise",
        timezone="America/New_York",
        share=16,
        byok=frozenset({"anthropic", "openai"}),
        weekend=0.1,
        month_used=52,
        keys={"contracts": "demo-portia", "research": "demo-atticus"},
        users=4,
        uses=(
            Use(task="rag", level="precision", models={OPUS: 45, SONNET: 55}, prompt=9500, completion=700, share=40,
                key="research", cached=0.6),
            Use(task="extraction", level="balanced", models={GPT: 60, PRO: 40}, prompt=6200, completion=350,
                share=60, key="contracts", streamed=0.2),
        ),
    ),
    Persona(
        slug="demo-harbor",
        name="Harbor Logistics",
        tier="starter",
        timezone="Europe/Berlin",
        share=13,
        markup_percent=15,
        weekend=0.7,
        grows=1.0,
        day_used=91,
        keys={"manifests": None, "customs": None},
        users=12,
        uses=(
            Use(task="extraction", level="eco", models={LITE: 50, "groq/openai/gpt-oss-20b": 50}, prompt=1100,
                completion=160, share=70, key="manifests", streamed=0.0),
            Use(task="translation", level="balanced", models={"mistral/mistral-medium-3-5": 70, GPT_MINI: 30},
                prompt=700, completion=420, share=30, key="customs", streamed=0.3),
        ),
    ),
    Persona(
        slug="demo-koala",
        name="Koala Learning",
        tier="starter",
        timezone="Australia/Sydney",
        share=10,
        markup_percent=15,
        users=80,
        weekend=0.8,
        grows=1.8,
        keys={"tutor-app": None},
        uses=(
            Use(task="reasoning", level="balanced", models={"openai/o4-mini": 40, FLASH: 60}, prompt=600,
                completion=800, share=40, key="tutor-app", streamed=0.9),
            Use(task="chat", level="eco", models={LITE: 60, "openai/gpt-4o-mini": 40}, prompt=420, completion=260,
                share=60, key="tutor-app", streamed=0.95),
        ),
    ),
    Persona(
        slug="demo-sakura",
        name="Sakura Retail",
        tier="professional",
        timezone="Asia/Tokyo",
        share=6,
        byok=frozenset({"google"}),
        markup_percent=8,
        weekend=1.1,
        users=30,
        keys={"catalog-writer": "demo-yuki", "shop-assistant": None},
        uses=(
            Use(task="creative", level="balanced", models={PRO: 60, "xai/grok-4.3": 40}, prompt=500, completion=650,
                share=50, key="catalog-writer"),
            Use(task="chat", level="", models={FLASH: 100}, prompt=800, completion=220, share=50,
                key="shop-assistant", streamed=0.95),
        ),
    ),
    Persona(
        slug="demo-tinker",
        name="Tinker Labs",
        tier="free",
        timezone="UTC",
        share=1,
        weekend=1.6,
        keys={"notebook": "demo-nikola"},
        users=1,
        uses=(
            Use(task="general", level="", models={"sandbox/echo": 80, LITE: 20}, prompt=200, completion=180, share=100,
                key="notebook", streamed=0.5),
        ),
    ),
)  # fmt: skip
