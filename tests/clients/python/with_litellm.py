"""LiteLLM as a client: `with_litellm.py chat` (its provider `openai`) or `... messages` (its provider `anthropic`)."""

import json
import sys
from typing import Any

import litellm
import openai
from loop import ASK, DESCRIPTION, Job, serve
from pydantic import BaseModel

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": DESCRIPTION,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
QUESTION: list[Any] = [{"role": "user", "content": ASK}]


class Weather(BaseModel):
    city: str
    degrees: int


def complete(job: Job, messages: list[Any], **more: Any) -> Any:
    if sys.argv[1] == "messages":
        place = {"model": f"anthropic/{job.model}", "api_base": job.url}
    else:
        place = {"model": f"openai/{job.model}", "api_base": f"{job.url}/v1"}
    limits = {"max_tokens": 500, "max_retries": 0, "timeout": 30}
    return litellm.completion(api_key=job.key, messages=messages, **place, **limits, **more)


def text(job: Job) -> dict[str, Any]:
    return answered(job, QUESTION)


def image(job: Job) -> dict[str, Any]:
    picture = {"type": "image_url", "image_url": {"url": job.image_url}}
    return answered(job, [{"role": "user", "content": [{"type": "text", "text": ASK}, picture]}])


def answered(job: Job, messages: list[Any]) -> dict[str, Any]:
    answer = complete(job, messages)
    bill(job, answer)
    return job.said(answer.choices[0].message.content)


def stream(job: Job) -> dict[str, Any]:
    answer = streamed(job, QUESTION)
    return job.said(answer.choices[0].message.content)


def tools(job: Job) -> dict[str, Any]:
    messages = [*QUESTION]
    while True:
        answer = complete(job, messages, tools=[TOOL])
        bill(job, answer)
        message = answer.choices[0].message
        if not message.tool_calls:
            return job.said(message.content)
        messages += turn(job, message)


def streamed_tools(job: Job) -> dict[str, Any]:
    messages = [*QUESTION]
    while True:
        message = streamed(job, messages, tools=[TOOL]).choices[0].message
        if not message.tool_calls:
            return job.said(message.content)
        messages += turn(job, message)


def schema(job: Job) -> dict[str, Any]:
    answer = complete(job, QUESTION, response_format=Weather)
    bill(job, answer)
    return job.said(None, parsed=json.loads(answer.choices[0].message.content))


def embeddings(job: Job) -> dict[str, Any]:
    place = {"model": f"openai/{job.embedder}", "api_base": f"{job.url}/v1", "api_key": job.key}
    answer = litellm.embedding(input=["Paris", "Rome"], **place)
    job.billed(answer.usage.prompt_tokens, 0, 0)
    return job.said(None, parsed=[one["embedding"] for one in answer.data])


def streamed(job: Job, messages: list[Any], **more: Any) -> Any:
    chunks = []
    for chunk in complete(job, messages, stream=True, stream_options={"include_usage": True}, **more):
        chunks.append(chunk)
        job.seen += [one.delta.content for one in chunk.choices if one.delta.content]
        if getattr(chunk, "usage", None):
            bill(job, chunk)
    return litellm.stream_chunk_builder(chunks, messages=messages)


def turn(job: Job, message: Any) -> list[Any]:
    return [
        message.model_dump(exclude_none=True),
        *(
            {"role": "tool", "tool_call_id": one.id, "content": job.call(one.function.name, one.function.arguments)}
            for one in message.tool_calls
        ),
    ]


def bill(job: Job, answer: Any) -> None:
    usage = answer.usage
    cached = usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens
    job.billed(usage.prompt_tokens, usage.completion_tokens, cached)


FEATURES = {
    "text": text,
    "stream": stream,
    "tools": tools,
    "streamed_tools": streamed_tools,
    "schema": schema,
    "image": image,
    "embeddings": embeddings,
}

if __name__ == "__main__":
    serve(FEATURES, (openai.OpenAIError,), ("litellm", "openai"))
