"""The sandbox's legacy completions: what it would say in a chat of that one message, in the legacy shape.

A prompt of several texts gives as many answers, `n` of each, in the order of the prompts. A prompt of token ids is
refused: the sandbox has no tokenizer.
"""

from dataclasses import replace
from typing import Any

from llm.calls import Call, Completed, StreamEvent
from llm.errors import InvalidRequest
from llm.providers import sandbox
from llm.providers.sandbox import Sandbox

Json = dict[str, Any]


class SandboxCompletions(Sandbox):
    """`respond` and `stream` in place of a call."""

    def respond(self, call: Call) -> Completed:
        """Raises InvalidRequest naming the parameter that is wrong."""
        answers = [sandbox.respond(chat).body for chat in _chats(call)]
        choices: list[Json] = []
        for answer in answers:
            choices += [
                _choice(len(choices) + place, choice["message"]["content"], choice["finish_reason"])
                for place, choice in enumerate(answer["choices"])
            ]
        usage = _sum([answer["usage"] for answer in answers])
        body = _shape(answers[0]) | {"choices": choices, "usage": usage}
        return Completed(body=body, usage=usage)

    def stream(self, call: Call) -> list[StreamEvent]:
        """The same answers, one prompt's after the other's; usage with the last event."""
        events: list[StreamEvent] = []
        usages: list[Json] = []
        first = 0  # index of this prompt's first choice
        for chat in _chats(call):
            told = sandbox.stream(chat)
            most = 0
            for event in told:
                for choice in [] if event.chunk is None else event.chunk["choices"]:
                    most = max(most, choice["index"] + 1)
                    event.chunk = _legacy(event.chunk or {}, choice, first)
            usages.append(dict(told[-1].usage or {}))
            events += [replace(event, usage=None) for event in told if event.chunk is not None]
            first += most
        usage = _sum(usages)
        events[-1].usage = usage
        return [*events, StreamEvent(done=True, usage=usage)]


ADAPTER = SandboxCompletions()


def _chats(call: Call) -> list[Call]:
    """A chat of one message for each prompt."""
    given = call.body.get("prompt")
    prompts = given if isinstance(given, list) else [given]
    if not prompts or not all(isinstance(one, str) for one in prompts):
        raise InvalidRequest("`prompt` must be a string or a list of strings.", param="prompt")
    kept = {name: value for name, value in call.body.items() if name in ("n", "stop")}
    return [replace(call, body={"messages": [{"role": "user", "content": one}], **kept}) for one in prompts]


def _legacy(chunk: Json, choice: Json, first: int) -> Json:
    """One chunk of a chat's stream in the legacy shape."""
    text = choice["delta"].get("content") or ""
    return _shape(chunk) | {"choices": [_choice(first + choice["index"], text, choice["finish_reason"])]}


def _shape(answer: Json) -> Json:
    return {name: answer[name] for name in ("id", "created", "model")} | {"object": "text_completion"}


def _choice(index: int, text: str, finish: str | None) -> Json:
    return {"index": index, "text": text, "logprobs": None, "finish_reason": finish}


def _sum(usages: list[Json]) -> Json:
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: sum(usage[name] for usage in usages) for name in names}
