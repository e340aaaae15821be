"""What a provider was told, read from its request in its own dialect: the other side's view of each feature."""

import json
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
JSON_ASKED = "one valid JSON object"  # what stands in for JSON mode where a dialect has none


@dataclass
class Told:
    """One request, whatever the dialect. `choice` is auto, any, none or a tool's name; `format` json or schema."""

    system: str = ""
    turns: list[tuple[str, str]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)  # "data" | "url"
    documents: int = 0
    tools: list[str] = field(default_factory=list)
    choice: str = "auto"
    parallel: bool | None = None
    calls: list[tuple[str, Any]] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    format: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    cap: int | None = None
    stop: list[str] = field(default_factory=list)
    seed: int | None = None
    penalties: tuple[float | None, float | None] = (None, None)
    choices: int = 1
    logprobs: bool = False
    user: str | None = None
    thinks: bool = False
    cache_marks: bool = False
    service_tier: str | None = None

    def say(self, role: str, text: str) -> None:
        if text:
            self.turns.append((role, text))


def read(dialect: str, path: str, body: Json) -> Told:
    """`path` is the request's."""
    told = READERS[dialect](body)
    told.service_tier = body.get("service_tier")
    told.cache_marks = "cache_control" in json.dumps(body) or "cachePoint" in json.dumps(body)
    return told


def openai(body: Json) -> Told:
    told = Told(temperature=body.get("temperature"), top_p=body.get("top_p"), top_k=body.get("top_k"))
    told.seed, told.user, told.choices = body.get("seed"), body.get("user"), body.get("n", 1)
    told.cap = body.get("max_tokens") or body.get("max_completion_tokens")
    told.stop = [body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop") or []
    told.penalties = (body.get("frequency_penalty"), body.get("presence_penalty"))
    told.logprobs = body.get("logprobs") is True
    told.parallel = body.get("parallel_tool_calls")
    told.thinks = "reasoning_effort" in body
    told.tools = [tool["function"]["name"] for tool in body.get("tools", [])]
    told.choice = _openai_choice(body.get("tool_choice", "auto"))
    wanted = body.get("response_format", {}).get("type")
    told.format = {"json_object": "json", "json_schema": "schema"}.get(wanted)
    for message in body["messages"]:
        _openai_message(told, message)
    return told


def _openai_choice(said: Any) -> str:
    if isinstance(said, dict):
        return str(said["function"]["name"])
    return {"required": "any"}.get(said, said)


def _openai_message(told: Told, message: Json) -> None:
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    text = "".join(part.get("text", "") for part in parts)
    if message["role"] in ("system", "developer"):
        told.system += text
    elif message["role"] == "tool":
        told.results.append(text)
    else:
        told.say(message["role"], text)
    for part in parts:
        if part["type"] == "image_url":
            told.images.append("data" if part["image_url"]["url"].startswith("data:") else "url")
    for call in message.get("tool_calls") or []:
        told.calls.append((call["function"]["name"], json.loads(call["function"]["arguments"])))


def anthropic(body: Json) -> Told:
    told = Told(temperature=body.get("temperature"), top_p=body.get("top_p"), top_k=body.get("top_k"))
    told.cap, told.stop = body["max_tokens"], body.get("stop_sequences") or []
    told.user = body.get("metadata", {}).get("user_id")
    told.tools = [tool["name"] for tool in body.get("tools", [])]
    choice = body.get("tool_choice", {"type": "auto"})
    told.choice = choice.get("name") or choice["type"]
    told.parallel = False if choice.get("disable_parallel_tool_use") else None
    told.thinks = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
    system = body.get("system", "")
    told.system = system if isinstance(system, str) else "".join(block["text"] for block in system)
    if "format" in body.get("output_config", {}):
        told.format = "schema"
    elif JSON_ASKED in told.system:
        told.format = "json"
    for message in body["messages"]:
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            _anthropic_block(told, message["role"], block)
    return told


def _anthropic_block(told: Told, role: str, block: Json) -> None:
    if block["type"] == "text":
        told.say(role, block["text"])
    elif block["type"] == "image":
        told.images.append("data" if block["source"]["type"] == "base64" else "url")
    elif block["type"] == "document":
        told.documents += 1
    elif block["type"] == "tool_use":
        told.calls.append((block["name"], block["input"]))
    elif block["type"] == "tool_result":
        content = block["content"]
        told.results.append(content if isinstance(content, str) else "".join(part["text"] for part in content))


def google(body: Json) -> Told:
    settings = body.get("generationConfig", {})
    told = Told(
        temperature=settings.get("temperature"), top_p=settings.get("topP"), top_k=settings.get("topK"),
        cap=settings.get("maxOutputTokens"), stop=settings.get("stopSequences") or [], seed=settings.get("seed"),
        penalties=(settings.get("frequencyPenalty"), settings.get("presencePenalty")),
        choices=settings.get("candidateCount", 1), logprobs=settings.get("responseLogprobs") is True,
    )  # fmt: skip
    thinking = settings.get("thinkingConfig", {})
    told.thinks = "thinkingLevel" in thinking or bool(thinking.get("thinkingBudget"))
    if settings.get("responseMimeType") == "application/json":
        told.format = "schema" if {"responseSchema", "responseJsonSchema"} & settings.keys() else "json"
    told.tools = [one["name"] for tool in body.get("tools", []) for one in tool.get("functionDeclarations", [])]
    choice = body.get("toolConfig", {}).get("functionCallingConfig", {})
    mode, allowed = choice.get("mode", "AUTO").lower(), choice.get("allowedFunctionNames")
    told.choice = allowed[0] if allowed and len(allowed) == 1 else mode
    told.system = "".join(part.get("text", "") for part in body.get("systemInstruction", {}).get("parts", []))
    for content in body["contents"]:
        role = "assistant" if content.get("role") == "model" else "user"
        for part in content["parts"]:
            if "functionCall" in part:
                told.calls.append((part["functionCall"]["name"], part["functionCall"].get("args", {})))
            elif "functionResponse" in part:
                told.results.append(_only_text(part["functionResponse"]["response"]))
            elif "inlineData" in part or "fileData" in part:
                told.images.append("data" if "inlineData" in part else "url")
            else:
                told.say(role, part.get("text", ""))
    return told


def bedrock(body: Json) -> Told:
    settings, more = body.get("inferenceConfig", {}), body.get("additionalModelRequestFields", {})
    told = Told(
        temperature=settings.get("temperature"), top_p=settings.get("topP"), top_k=more.get("top_k"),
        cap=settings.get("maxTokens"), stop=settings.get("stopSequences") or [],
    )  # fmt: skip
    told.thinks = bool({"thinking", "reasoning_config", "reasoning_effort", "reasoningConfig"} & more.keys())
    config = body.get("toolConfig", {})
    told.tools = [tool["toolSpec"]["name"] for tool in config.get("tools", []) if "toolSpec" in tool]
    choice = config.get("toolChoice", {"auto": {}})
    told.choice = choice["tool"]["name"] if "tool" in choice else next(iter(choice))
    told.system = "".join(block.get("text", "") for block in body.get("system", []))
    if "outputConfig" in body or told.choice == "tollgate_structured_answer":
        told.format = "schema"
    elif JSON_ASKED in told.system:
        told.format = "json"
    for message in body["messages"]:
        for block in message["content"]:
            if "text" in block:
                told.say(message["role"], block["text"])
            elif "image" in block:
                told.images.append("data")
            elif "toolUse" in block:
                told.calls.append((block["toolUse"]["name"], block["toolUse"]["input"]))
            elif "toolResult" in block:
                told.results.append("".join(_only_text(part) for part in block["toolResult"]["content"]))
    return told


def cohere(body: Json) -> Told:
    told = Told(
        temperature=body.get("temperature"), top_p=body.get("p"), top_k=body.get("k"), cap=body.get("max_tokens"),
        stop=body.get("stop_sequences") or [], seed=body.get("seed"), logprobs=body.get("logprobs") is True,
        penalties=(body.get("frequency_penalty"), body.get("presence_penalty")),
    )  # fmt: skip
    told.thinks = body.get("thinking", {}).get("type") == "enabled"
    told.tools = [tool["function"]["name"] for tool in body.get("tools", [])]
    told.choice = {"REQUIRED": "any", "NONE": "none", None: "auto"}[body.get("tool_choice")]
    wanted = body.get("response_format")
    if wanted and wanted["type"] == "json_object":
        told.format = "schema" if {"schema", "json_schema"} & wanted.keys() else "json"
    for message in body["messages"]:
        _openai_message(told, message)
    return told


def _only_text(value: Any) -> str:
    """The one text in a small structure."""
    while isinstance(value, dict) and len(value) == 1:
        [value] = value.values()
    return value if isinstance(value, str) else json.dumps(value)


READERS = {"openai": openai, "anthropic": anthropic, "google": google, "bedrock": bedrock, "cohere": cohere}
