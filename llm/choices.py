"""The fixed vocabularies of the catalog and of routing."""

from django.db import models

from tenants.tiers import Tier


class Dialect(models.TextChoices):
    """The shape of a provider's API. A vendor is a row; a dialect is an adapter."""

    OPENAI = "openai", "OpenAI"
    ANTHROPIC = "anthropic", "Anthropic"
    GOOGLE = "google", "Google Gemini"
    BEDROCK = "bedrock", "Amazon Bedrock"
    COHERE = "cohere", "Cohere"
    SANDBOX = "sandbox", "Sandbox (built in)"


class AuthType(models.TextChoices):
    API_KEY = "api_key", "API key in the dialect's own header"
    BEARER = "bearer", "Authorization: Bearer"
    OAUTH = "oauth", "OAuth service account"
    CUSTOM = "custom", "A header named in the quirks (auth_header)"
    NONE = "none", "None"


class HealthStatus(models.TextChoices):
    HEALTHY = "healthy", "Healthy"
    DEGRADED = "degraded", "Degraded"
    DOWN = "down", "Down"
    UNKNOWN = "unknown", "Unknown"


class BreakerKind(models.TextChoices):
    """What an open breaker takes out of routing."""

    PROVIDER = "provider", "Provider"
    MODEL = "model", "Model"
    CREDENTIAL = "credential", "Key"
    LIMIT = "limit", "Rate limit of a model with a key"


class BreakerState(models.TextChoices):
    CLOSED = "closed", "Closed"
    OPEN = "open", "Open"
    HALF_OPEN = "half_open", "Half-open"


class Kind(models.TextChoices):
    CHAT = "chat", "Chat"
    EMBEDDING = "embedding", "Embedding"


class SpeedTier(models.TextChoices):
    FAST = "fast", "Fast"
    STANDARD = "standard", "Standard"
    SLOW = "slow", "Slow"


class QualityTier(models.TextChoices):
    BEST = "best", "Best"
    GOOD = "good", "Good"
    BASIC = "basic", "Basic"


class SizeCategory(models.TextChoices):
    TINY = "tiny", "Tiny"
    SMALL = "small", "Small"
    MEDIUM = "medium", "Medium"
    LARGE = "large", "Large"
    XL = "xl", "XL"


class PowerLevel(models.TextChoices):
    ECO = "eco", "Eco"
    BALANCED = "balanced", "Balanced"
    PRECISION = "precision", "Precision"


class TaskType(models.TextChoices):
    CODE = "code", "Code"
    CHAT = "chat", "Chat"
    RAG = "rag", "RAG"
    CREATIVE = "creative", "Creative"
    REASONING = "reasoning", "Reasoning"
    EXTRACTION = "extraction", "Extraction"
    TRANSLATION = "translation", "Translation"
    GENERAL = "general", "General"


class Priority(models.TextChoices):
    COST = "cost", "Cost"
    SPEED = "speed", "Speed"
    QUALITY = "quality", "Quality"
    BALANCED = "balanced", "Balanced"


class RuleTier(models.TextChoices):
    """Whom a rule is for: one tier exactly, or all."""

    ALL = "all", "All tiers"
    FREE = Tier.FREE.value, "Free"
    STARTER = Tier.STARTER.value, "Starter"
    PROFESSIONAL = Tier.PROFESSIONAL.value, "Professional"
    ENTERPRISE = Tier.ENTERPRISE.value, "Enterprise"


class Meter(models.TextChoices):
    """What a price counts. After normalisation no token is in two meters."""

    INPUT = "input", "Input tokens"
    OUTPUT = "output", "Output tokens"
    CACHE_READ = "cache_read", "Cached input tokens read"
    CACHE_WRITE_5M = "cache_write_5m", "Cache writes kept 5 minutes"
    CACHE_WRITE_1H = "cache_write_1h", "Cache writes kept 1 hour"
    REASONING = "reasoning", "Reasoning tokens"
    AUDIO_INPUT = "audio_input", "Audio input tokens"
    AUDIO_OUTPUT = "audio_output", "Audio output tokens"
    AUDIO_CACHE_READ = "audio_cache_read", "Cached audio input tokens read"
    IMAGE_INPUT = "image_input", "Image input tokens"
    IMAGE_OUTPUT = "image_output", "Image output tokens"
    IMAGE_CACHE_READ = "image_cache_read", "Cached image input tokens read"
    VIDEO_INPUT = "video_input", "Video input tokens"
    VIDEO_OUTPUT = "video_output", "Video output tokens"
    CITATION = "citation", "Citation tokens"
    IMAGE = "image", "Images"
    REQUEST = "request", "Requests"
    SEARCH = "search", "Searches"


class ServiceTier(models.TextChoices):
    """How a provider serves a request, where it charges for that. Requests may ask for flex and priority; batch cannot
    be asked for, since there is no API for it here."""

    STANDARD = "standard", "Standard"
    BATCH = "batch", "Batch"
    FLEX = "flex", "Flex"
    PRIORITY = "priority", "Priority"


class PriceStatus(models.TextChoices):
    """The life of a price: draft -> proposed -> approved -> active -> superseded, or cancelled before it begins."""

    DRAFT = "draft", "Draft"
    PROPOSED = "proposed", "Proposed"
    APPROVED = "approved", "Approved"
    ACTIVE = "active", "Active"
    SUPERSEDED = "superseded", "Superseded"
    CANCELLED = "cancelled", "Cancelled"


class ProposalState(models.TextChoices):
    PENDING = "pending", "Pending"
    APPROVED = "approved", "Approved"
    REJECTED = "rejected", "Rejected"
    SUPERSEDED = "superseded", "Superseded"


class PriceTaskKind(models.TextChoices):
    """What is the matter with a model's price."""

    UNPRICED = "unpriced", "Used but unpriced"
    STALE = "stale", "Stale price"


class PriceTaskState(models.TextChoices):
    OPEN = "open", "Open"
    IN_PROGRESS = "in_progress", "In progress"
    IGNORED = "ignored", "Ignored"
    DONE = "done", "Done"


class CorrectionState(models.TextChoices):
    """The life of a correction run: working -> pending -> approved -> booked, or rejected, or cancelled."""

    WORKING = "working", "Being worked out"
    PENDING = "pending", "Pending"
    APPROVED = "approved", "Approved, being booked"
    BOOKED = "booked", "Booked"
    REJECTED = "rejected", "Rejected"
    CANCELLED = "cancelled", "Cancelled"
