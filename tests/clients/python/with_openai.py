"""openai-python: `with_openai.py chat` or `with_openai.py responses`."""

import sys
from typing import Any, Literal

import openai
from loop import ASK, DESCRIPTION, Job, serve
from pydantic import BaseModel, ConfigDict


class Weather(BaseModel):
    model_config = ConfigDict(extra="forbid")
    city: str
    degrees: int


class get_weather(BaseModel):  # noqa: N801  # the tool's name
    """The weather in a city."""

    city: str


def client(job: Job) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{job.url}/v1", api_key=job.key, max_retries=0, timeout=30)


# --- chat completions -------------------------------------------------------------------------------------------------

Messages = list[Any]
QUESTION: Messages = [{"role": "user", "content": ASK}]


def chat_text(job: Job) -> dict[str, Any]:
    return chat_answered(job, QUESTION)


def chat_image(job: Job) -> dict[str, Any]:
    parts = [{"type": "text", "text": ASK}, {"type": "image_url", "image_url": {"url": job.image_url}}]
    return chat_answered(job, [{"role": "user", "content": parts}])


def chat_answered(job: Job, messages: Messages) -> dict[str, Any]:
    answer = client(job).chat.completions.create(model=job.model, messages=messages)
    bill_chat(job, answer)
    return job.said(answer.choices[0].message.content)


def chat_stream(job: Job) -> dict[str, Any]:
    for chunk in client(job).chat.completions.create(
        model=job.model, messages=QUESTION, stream=True, stream_options={"include_usage": True}
    ):
        job.seen += [one.delta.content for one in chunk.choices if one.delta.content]
        if chunk.usage:
            bill_chat(job, chunk)
    return job.said("".join(job.seen))


def chat_tools(job: Job) -> dict[str, Any]:
    messages: Messages = [*QUESTION]
    while True:
        answer = client(job).chat.completions.create(model=job.model, messages=messages, tools=[chat_tool()])
        bill_chat(job, answer)
        message = answer.choices[0].message
        if not message.tool_calls:
            return job.said(message.content)
        messages += [message, *chat_results(job, message)]


def chat_streamed_tools(job: Job) -> dict[str, Any]:
    messages: Messages = [*QUESTION]
    while True:
        with client(job).chat.completions.stream(
            model=job.model, messages=messages, tools=[chat_tool()], stream_options={"include_usage": True}
        ) as stream:
            for event in stream:
                if event.type == "content.delta":
                    job.seen.append(event.delta)
            answer = stream.get_final_completion()
        bill_chat(job, answer)
        message = answer.choices[0].message
        if not message.tool_calls:
            return job.said(message.content)
        messages += [message, *chat_results(job, message)]


def chat_schema(job: Job) -> dict[str, Any]:
    answer = client(job).chat.completions.parse(model=job.model, messages=QUESTION, response_format=Weather)
    bill_chat(job, answer)
    parsed = answer.choices[0].message.parsed
    return job.said(None, parsed=parsed and parsed.model_dump())


def models(job: Job) -> dict[str, Any]:
    """The list, page by page, and the model by its name."""
    listed = [one.id for one in client(job).models.list()]
    return job.said(client(job).models.retrieve(job.model).id if job.model in listed else None)


def embeddings(job: Job) -> dict[str, Any]:
    """Vectors, which this SDK asks for in base64."""
    answer = client(job).embeddings.create(model=job.embedder, input=["Paris", "Rome"])
    job.billed(answer.usage.prompt_tokens, 0, 0)
    return job.said(None, parsed=[one.embedding for one in answer.data])


def chat_tool() -> Any:
    return openai.pydantic_function_tool(get_weather)


def chat_results(job: Job, message: Any) -> Messages:
    return [
        {"role": "tool", "tool_call_id": one.id, "content": job.call(one.function.name, one.function.arguments)}
        for one in message.tool_calls
    ]


def bill_chat(job: Job, answer: Any) -> None:
    usage = answer.usage
    cached = usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens
    job.billed(usage.prompt_tokens, usage.completion_tokens, cached)


# --- responses --------------------------------------------------------------------------------------------------------

TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "description": DESCRIPTION,
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


# So that reasoning comes with its signature and goes back to the provider.
STATELESS: Any = {"store": False, "include": ["reasoning.encrypted_content"]}


def responses_text(job: Job) -> dict[str, Any]:
    return responses_answered(job, ASK)


def responses_image(job: Job) -> dict[str, Any]:
    detail: Literal["auto"] = "auto"
    parts = [
        {"type": "input_text", "text": ASK},
        {"type": "input_image", "image_url": job.image_url, "detail": detail},
    ]
    return responses_answered(job, [{"role": "user", "content": parts}])


def responses_answered(job: Job, given: Any) -> dict[str, Any]:
    answer = client(job).responses.create(model=job.model, input=given)
    bill_response(job, answer)
    return job.said(answer.output_text)


def responses_stream(job: Job) -> dict[str, Any]:
    for event in client(job).responses.create(model=job.model, input=ASK, stream=True):
        if event.type == "response.output_text.delta":
            job.seen.append(event.delta)
        elif event.type == "response.completed":
            bill_response(job, event.response)
    return job.said("".join(job.seen))


def responses_tools(job: Job) -> dict[str, Any]:
    given: list[Any] = [*QUESTION]
    while True:
        answer = client(job).responses.create(model=job.model, input=given, tools=[TOOL], **STATELESS)
        bill_response(job, answer)
        results = response_results(job, answer)
        if not results:
            return job.said(answer.output_text)
        given += [*answer.output, *results]


def responses_streamed_tools(job: Job) -> dict[str, Any]:
    given: list[Any] = [*QUESTION]
    while True:
        with client(job).responses.stream(model=job.model, input=given, tools=[TOOL], **STATELESS) as stream:
            for event in stream:
                if event.type == "response.output_text.delta":
                    job.seen.append(event.delta)
            answer = stream.get_final_response()
        bill_response(job, answer)
        results = response_results(job, answer)
        if not results:
            return job.said(answer.output_text)
        given += [
            *(one.model_dump(exclude={"parsed_arguments", "status"}, exclude_none=True) for one in answer.output),
            *results,
        ]


def responses_schema(job: Job) -> dict[str, Any]:
    answer = client(job).responses.parse(model=job.model, input=ASK, text_format=Weather)
    bill_response(job, answer)
    return job.said(None, parsed=answer.output_parsed and answer.output_parsed.model_dump())


def response_results(job: Job, answer: Any) -> list[Any]:
    return [
        {"type": "function_call_output", "call_id": one.call_id, "output": job.call(one.name, one.arguments)}
        for one in answer.output
        if one.type == "function_call"
    ]


def bill_response(job: Job, answer: Any) -> None:
    usage = answer.usage
    job.billed(usage.input_tokens, usage.output_tokens, usage.input_tokens_details.cached_tokens)


FEATURES = {
    "chat": {
        "text": chat_text,
        "stream": chat_stream,
        "tools": chat_tools,
        "streamed_tools": chat_streamed_tools,
        "schema": chat_schema,
        "image": chat_image,
        "models": models,
        "embeddings": embeddings,
    },
    "responses": {
        "text": responses_text,
        "stream": responses_stream,
        "tools": responses_tools,
        "streamed_tools": responses_streamed_tools,
        "schema": responses_schema,
        "image": responses_image,
    },
}

if __name__ == "__main__":
    serve(FEATURES[sys.argv[1]], (openai.OpenAIError,), ("openai",))
