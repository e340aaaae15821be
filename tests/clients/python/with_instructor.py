"""instructor: `with_instructor.py chat` (over openai-python) or `with_instructor.py messages` (over anthropic-python).

Whatever it is asked it answers with an object.
"""

import sys
from typing import Any

import anthropic
import instructor
import openai
from instructor.core.exceptions import InstructorError
from loop import ASK, Job, serve
from pydantic import BaseModel


class Weather(BaseModel):
    """The weather in a city."""

    city: str
    degrees: int


def asked(job: Job) -> tuple[Any, dict[str, Any]]:
    """The patched client, and what every call carries."""
    messages = [{"role": "user", "content": ASK}]
    call: dict[str, Any] = {"model": job.model, "messages": messages, "max_retries": 0, "max_tokens": 500}
    if sys.argv[1] == "messages":
        bare: Any = anthropic.Anthropic(base_url=job.url, api_key=job.key, max_retries=0, timeout=30)
        return instructor.from_anthropic(bare), call
    bare = openai.OpenAI(base_url=f"{job.url}/v1", api_key=job.key, max_retries=0, timeout=30)
    return instructor.from_openai(bare), call


def schema(job: Job) -> dict[str, Any]:
    client, call = asked(job)
    found, answer = client.create_with_completion(response_model=Weather, **call)
    if sys.argv[1] == "messages":
        job.billed(answer.usage.input_tokens, answer.usage.output_tokens, 0)
    else:
        job.billed(answer.usage.prompt_tokens, answer.usage.completion_tokens, 0)
    return job.said(None, parsed=found.model_dump())


def streamed_schema(job: Job) -> dict[str, Any]:
    client, call = asked(job)
    found = None
    for found in client.create_partial(response_model=Weather, **call):
        job.seen.append(str(found))
    return job.said(None, parsed=found and found.model_dump(), usage=None)


FEATURES = {"text": schema, "schema": schema, "streamed_schema": streamed_schema}

if __name__ == "__main__":
    serve(
        FEATURES, (InstructorError, openai.OpenAIError, anthropic.AnthropicError), ("instructor", "openai", "anthropic")
    )
