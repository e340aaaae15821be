"""LlamaIndex's OpenAILike: `with_llama_index.py chat`."""

import base64
from typing import Any

import openai
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from loop import ASK, DESCRIPTION, Job, serve, weather
from pydantic import BaseModel


class Weather(BaseModel):
    """The weather in a city."""

    city: str
    degrees: int


TOOL = FunctionTool.from_defaults(weather, name="get_weather", description=DESCRIPTION)


def model(job: Job, **more: Any) -> OpenAILike:
    return OpenAILike(
        model=job.model,
        api_base=f"{job.url}/v1",
        api_key=job.key,
        is_chat_model=True,
        is_function_calling_model=True,
        context_window=128_000,
        max_retries=0,
        timeout=30,
        **more,
    )


def text(job: Job) -> dict[str, Any]:
    return answered(job, ChatMessage(role="user", content=ASK))


def image(job: Job) -> dict[str, Any]:
    picture = ImageBlock(image=base64.b64decode(job.image), image_mimetype="image/png")
    return answered(job, ChatMessage(role="user", blocks=[TextBlock(text=ASK), picture]))


def answered(job: Job, message: ChatMessage) -> dict[str, Any]:
    answer = model(job).chat([message])
    bill(job, answer.raw.usage)
    return job.said(answer.message.content)


def stream(job: Job) -> dict[str, Any]:
    asked = model(job, additional_kwargs={"stream_options": {"include_usage": True}})
    answer = streamed(job, asked.stream_chat([ChatMessage(role="user", content=ASK)]))
    return job.said(answer.message.content)


def tools(job: Job) -> dict[str, Any]:
    asked, messages = model(job), [ChatMessage(role="user", content=ASK)]
    while True:
        answer = asked.chat_with_tools([TOOL], chat_history=messages, allow_parallel_tool_calls=True)
        bill(job, answer.raw.usage)
        results = turn(job, asked, answer)
        if not results:
            return job.said(answer.message.content)
        messages += results


def streamed_tools(job: Job) -> dict[str, Any]:
    asked = model(job, additional_kwargs={"stream_options": {"include_usage": True}})
    messages = [ChatMessage(role="user", content=ASK)]
    while True:
        answer = streamed(
            job, asked.stream_chat_with_tools([TOOL], chat_history=messages, allow_parallel_tool_calls=True)
        )
        results = turn(job, asked, answer)
        if not results:
            return job.said(answer.message.content)
        messages += results


def schema(job: Job) -> dict[str, Any]:
    asked = model(job, should_use_structured_outputs=True).as_structured_llm(Weather)
    answer = asked.chat([ChatMessage(role="user", content=ASK)])
    return job.said(None, parsed=answer.raw.model_dump(), usage=None)


def streamed(job: Job, answers: Any) -> Any:
    """The last answer, which holds all before it."""
    last = None
    for last in answers:
        if last.delta:
            job.seen.append(last.delta)
        if last.raw.usage:
            bill(job, last.raw.usage)
    return last


def turn(job: Job, asked: OpenAILike, answer: Any) -> list[ChatMessage]:
    """The assistant's turn and the results of its calls; nothing if there are none."""
    calls = asked.get_tool_calls_from_response(answer, error_on_no_tool_call=False)
    results = []
    for one in calls:
        said = job.call(one.tool_name, one.tool_kwargs)
        results.append(ChatMessage(role="tool", content=said, additional_kwargs={"tool_call_id": one.tool_id}))
    return [answer.message, *results] if results else []


def bill(job: Job, usage: Any) -> None:
    cached = usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens
    job.billed(usage.prompt_tokens, usage.completion_tokens, cached)


FEATURES = {
    "text": text,
    "stream": stream,
    "tools": tools,
    "streamed_tools": streamed_tools,
    "schema": schema,
    "image": image,
}

if __name__ == "__main__":
    serve(FEATURES, (openai.OpenAIError,), ("llama-index-llms-openai-like", "llama-index-core", "openai"))
