"""From what people write to a row: a UUID, a slug, `provider/model_id`, or the small number of the guide's URLs."""

import re
import uuid

from llm.models import LLMModel, LLMProvider
from tenants.errors import NotFound
from tenants.scoping import missing

_NUMBER = re.compile(r"[0-9]{1,9}")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LONGEST = 300


def provider(reference: str) -> LLMProvider:
    """The provider called so, active or not. Raises NotFound."""
    text = _readable(reference, LLMProvider)
    rows = LLMProvider.objects.all()
    identity = _uuid(text)
    found = None if identity is None else rows.filter(pk=identity).first()
    found = found or rows.filter(slug=text).first()
    if found is None and _NUMBER.fullmatch(text):
        found = rows.filter(number=int(text)).first()
    if found is None:
        raise missing(LLMProvider)
    return found


def model(reference: str) -> LLMModel:
    """The model called so, active or not, its provider loaded. A bare `model_id` will do if only one provider has it.

    Raises NotFound, naming the choices where several providers have it.
    """
    text = _readable(reference, LLMModel)
    rows = LLMModel.objects.select_related("provider", "replacement_model__provider")
    identity = _uuid(text)
    found = None if identity is None else rows.filter(pk=identity).first()
    if found is None and "/" in text:
        slug, _, model_id = text.partition("/")
        found = rows.filter(provider__slug=slug, model_id=model_id).first()
    if found is None:
        namesakes = list(rows.filter(model_id=text).order_by("provider__slug")[:5])
        if len(namesakes) > 1:
            names = ", ".join(row.reference for row in namesakes)
            raise NotFound(f"Several providers have this model. Name one of them: {names}.")
        found = namesakes[0] if namesakes else None
    if found is None and _NUMBER.fullmatch(text):
        found = rows.filter(number=int(text)).first()
    if found is None:
        raise missing(LLMModel)
    return found


def _readable(reference: str, kind: type[LLMProvider] | type[LLMModel]) -> str:
    """The reference without its trailing slash. What no database could look up is missing."""
    text = reference.removesuffix("/")
    if not text or len(text) > _LONGEST or _UNSTORABLE.search(text):
        raise missing(kind)
    return text


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
