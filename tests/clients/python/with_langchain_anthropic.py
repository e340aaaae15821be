"""langchain-anthropic: `with_langchain_anthropic.py messages`."""

from typing import Any

import anthropic
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from loop import ASK, Job, serve, weather
from pydantic import BaseModel


class Weather(BaseModel):
    """The weather in a city."""

    city: str
    degrees: int


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return weather(city)


def model(job: Job) -> ChatAnthropic:
    return ChatAnthropic(model=job.model, base_url=job.url, api_key=job.key, max_retries=0, timeout=30, max_tokens=500)


def text(job: Job) -> dict[str, Any]:
    return answered(job, HumanMessage(ASK))


def image(job: Job) -> dict[str, Any]:
    picture = {"type": "image", "base64": job.image, "mime_type": "image/png"}
    return answered(job, HumanMessage(content=[{"type": "text", "text": ASK}, picture]))


def answered(job: Job, message: BaseMessage) -> dict[str, Any]:
    answer = model(job).invoke([message])
    bill(job, answer)
    return job.said(answer.text)


def stream(job: Job) -> dict[str, Any]:
    return job.said(streamed(job, model(job), [HumanMessage(ASK)]).text)


def tools(job: Job) -> dict[str, Any]:
    messages: list[BaseMessage] = [HumanMessage(ASK)]
    bound = model(job).bind_tools([get_weather])
    while True:
        answer = bound.invoke(messages)
        bill(job, answer)
        if not answer.tool_calls:
            return job.said(answer.text)
        messages += turn(job, answer)


def streamed_tools(job: Job) -> dict[str, Any]:
    messages: list[BaseMessage] = [HumanMessage(ASK)]
    bound = model(job).bind_tools([get_weather])
    while True:
        answer = streamed(job, bound, messages)
        if not answer.tool_calls:
            return job.said(answer.text)
        messages += turn(job, answer)


def schema(job: Job) -> dict[str, Any]:
    found = model(job).with_structured_output(Weather, include_raw=True).invoke(ASK)
    bill(job, found["raw"])
    return job.said(None, parsed=found["parsed"] and found["parsed"].model_dump())


def streamed(job: Job, bound: Any, messages: list[BaseMessage]) -> Any:
    """The message that the chunks add up to."""
    whole = None
    for chunk in bound.stream(messages):
        if chunk.text:
            job.seen.append(chunk.text)
        whole = chunk if whole is None else whole + chunk
    bill(job, whole)
    return whole


def turn(job: Job, answer: Any) -> list[BaseMessage]:
    return [
        answer,
        *(ToolMessage(job.call(one["name"], one["args"]), tool_call_id=one["id"]) for one in answer.tool_calls),
    ]


def bill(job: Job, answer: Any) -> None:
    usage = answer.usage_metadata
    cached = usage.get("input_token_details", {}).get("cache_read")
    job.billed(usage["input_tokens"], usage["output_tokens"], cached)


FEATURES = {
    "text": text,
    "stream": stream,
    "tools": tools,
    "streamed_tools": streamed_tools,
    "schema": schema,
    "image": image,
}

if __name__ == "__main__":
    serve(FEATURES, (anthropic.AnthropicError,), ("langchain-anthropic", "anthropic"))
