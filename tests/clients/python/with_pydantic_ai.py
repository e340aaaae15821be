"""Pydantic AI: `with_pydantic_ai.py chat`, `... responses` or `... messages`."""

import asyncio
import base64
import sys
from typing import Any

import anthropic
import openai
from loop import ASK, Job, serve
from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, NativeOutput
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider


class Weather(BaseModel):
    """The weather in a city."""

    city: str
    degrees: int


def model(job: Job) -> Any:
    if sys.argv[1] == "messages":
        claude = anthropic.AsyncAnthropic(base_url=job.url, api_key=job.key, max_retries=0, timeout=30)
        return AnthropicModel(job.model, provider=AnthropicProvider(anthropic_client=claude))
    gpt = openai.AsyncOpenAI(base_url=f"{job.url}/v1", api_key=job.key, max_retries=0, timeout=30)
    place = OpenAIProvider(openai_client=gpt)
    if sys.argv[1] == "chat":
        return OpenAIChatModel(job.model, provider=place)
    signed = OpenAIModelProfile(openai_supports_encrypted_reasoning_content=True)  # so that reasoning goes back
    return OpenAIResponsesModel(job.model, provider=place, profile=signed)


def agent(job: Job, **more: Any) -> Agent[None, Any]:
    made: Agent[None, Any] = Agent(model(job), **more)
    return made


def with_tool(job: Job) -> Agent[None, Any]:
    made = agent(job)

    @made.tool_plain
    async def get_weather(city: str) -> str:
        """The weather in a city."""
        return job.call("get_weather", {"city": city})

    return made


def text(job: Job) -> dict[str, Any]:
    return ran(job, agent(job), ASK)


def image(job: Job) -> dict[str, Any]:
    picture = BinaryContent(data=base64.b64decode(job.image), media_type="image/png")
    return ran(job, agent(job), [ASK, picture])


def tools(job: Job) -> dict[str, Any]:
    return ran(job, with_tool(job), ASK)


def ran(job: Job, made: Agent[None, Any], prompt: Any) -> dict[str, Any]:
    result = made.run_sync(prompt)
    job.billed(result.usage.input_tokens, result.usage.output_tokens, result.usage.cache_read_tokens)
    return job.said(result.output)


def stream(job: Job) -> dict[str, Any]:
    return asyncio.run(streamed(job, agent(job)))


def streamed_tools(job: Job) -> dict[str, Any]:
    return asyncio.run(streamed(job, with_tool(job)))


async def streamed(job: Job, made: Agent[None, Any]) -> dict[str, Any]:
    async with made.run_stream(ASK) as result:
        async for piece in result.stream_text(delta=True, debounce_by=None):
            job.seen.append(piece)
        whole = await result.get_output()
    job.billed(result.usage.input_tokens, result.usage.output_tokens, result.usage.cache_read_tokens)
    return job.said(whole)


def schema(job: Job) -> dict[str, Any]:
    wanted: Any = Weather if sys.argv[1] == "messages" else NativeOutput(Weather)
    result = agent(job, output_type=wanted).run_sync(ASK)
    job.billed(result.usage.input_tokens, result.usage.output_tokens, result.usage.cache_read_tokens)
    return job.said(None, parsed=result.output.model_dump())


FEATURES = {
    "text": text,
    "stream": stream,
    "tools": tools,
    "streamed_tools": streamed_tools,
    "schema": schema,
    "image": image,
}

if __name__ == "__main__":
    errors = (AgentRunError, openai.OpenAIError, anthropic.AnthropicError)
    serve(FEATURES, errors, ("pydantic-ai-slim", "openai", "anthropic"))
