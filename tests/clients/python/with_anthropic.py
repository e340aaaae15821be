"""anthropic-python: `with_anthropic.py messages`."""

from typing import Any

import anthropic
from loop import ASK, DESCRIPTION, Job, serve
from pydantic import BaseModel

QUESTION: list[Any] = [{"role": "user", "content": ASK}]
TOOL: Any = {
    "name": "get_weather",
    "description": DESCRIPTION,
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


class Weather(BaseModel):
    city: str
    degrees: int


def client(job: Job) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=job.url, api_key=job.key, max_retries=0, timeout=30)


def text(job: Job) -> dict[str, Any]:
    return answered(job, QUESTION)


def image(job: Job) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": job.image}
    parts = [{"type": "text", "text": ASK}, {"type": "image", "source": source}]
    return answered(job, [{"role": "user", "content": parts}])


def answered(job: Job, messages: list[Any]) -> dict[str, Any]:
    answer = client(job).messages.create(model=job.model, max_tokens=500, messages=messages)
    bill(job, answer)
    return job.said(text_of(answer))


def stream(job: Job) -> dict[str, Any]:
    with client(job).messages.stream(model=job.model, max_tokens=500, messages=QUESTION) as answers:
        for piece in answers.text_stream:
            job.seen.append(piece)
        answer = answers.get_final_message()
    bill(job, answer)
    return job.said(text_of(answer))


def tools(job: Job) -> dict[str, Any]:
    messages = [*QUESTION]
    while True:
        answer = client(job).messages.create(model=job.model, max_tokens=500, messages=messages, tools=[TOOL])
        bill(job, answer)
        if answer.stop_reason != "tool_use":
            return job.said(text_of(answer))
        messages += turn(job, answer)


def streamed_tools(job: Job) -> dict[str, Any]:
    messages = [*QUESTION]
    while True:
        with client(job).messages.stream(model=job.model, max_tokens=500, messages=messages, tools=[TOOL]) as answers:
            for piece in answers.text_stream:
                job.seen.append(piece)
            answer = answers.get_final_message()
        bill(job, answer)
        if answer.stop_reason != "tool_use":
            return job.said(text_of(answer))
        messages += turn(job, answer)


def schema(job: Job) -> dict[str, Any]:
    answer = client(job).messages.parse(model=job.model, max_tokens=500, messages=QUESTION, output_format=Weather)
    bill(job, answer)
    return job.said(None, parsed=answer.parsed_output and answer.parsed_output.model_dump())


def models(job: Job) -> dict[str, Any]:
    """The list, page by page, and the model by its name."""
    listed = [one.id for one in client(job).models.list()]
    return job.said(client(job).models.retrieve(job.model).id if job.model in listed else None)


def count_tokens(job: Job) -> dict[str, Any]:
    answer = client(job).messages.count_tokens(model=job.model, messages=QUESTION)
    return job.said(None, counted=answer.input_tokens)


def turn(job: Job, answer: Any) -> list[Any]:
    """The assistant's turn and the results of its calls."""
    results = [
        {"type": "tool_result", "tool_use_id": one.id, "content": job.call(one.name, one.input)}
        for one in answer.content
        if one.type == "tool_use"
    ]
    return [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]


def text_of(answer: Any) -> str:
    return "".join(one.text for one in answer.content if one.type == "text")


def bill(job: Job, answer: Any) -> None:
    usage = answer.usage
    read, written = usage.cache_read_input_tokens or 0, usage.cache_creation_input_tokens or 0
    job.billed(usage.input_tokens + read + written, usage.output_tokens, read)


FEATURES = {
    "text": text,
    "stream": stream,
    "tools": tools,
    "streamed_tools": streamed_tools,
    "schema": schema,
    "image": image,
    "models": models,
    "count_tokens": count_tokens,
}

if __name__ == "__main__":
    serve(FEATURES, (anthropic.AnthropicError,), ("anthropic",))
