"""A client's program: one job a line on standard input, one answer a line on standard output.

It runs in the client's own virtual environment, so it knows nothing of Tollgate or its tests. A job is JSON:
`{feature, url, key, model, image}`; what is asked is in here, so that every client asks the same. An answer is what a
user of the SDK sees: `{text, tools: [[name, arguments]], usage: [prompt, completion, cached], parsed, pieces}` (usage
is null where the SDK hides it), or `{error: {type, status, message}, text}` if the SDK raised, with the text it had
shown before.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

ASK = "What is the weather in Paris and in Rome?"
DESCRIPTION = "The weather in a city."


@dataclass
class Job:
    """One thing to do. seen: the pieces of text a stream has shown so far. calls, usage: of all turns together."""

    feature: str
    url: str
    key: str
    model: str
    image: str
    seen: list[str] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    usage: list[int] = field(default_factory=lambda: [0, 0, 0])

    def billed(self, prompt: int | None, completion: int | None, cached: int | None) -> None:
        """Add the usage that the SDK shows for one answer; prompt: cached ones included."""
        self.usage[0] += prompt or 0
        self.usage[1] += completion or 0
        self.usage[2] += cached or 0

    def call(self, name: str, arguments: Any) -> str:
        """Run a tool that the model has called; arguments as JSON or parsed."""
        given = json.loads(arguments) if isinstance(arguments, str) else arguments
        self.calls.append((name, given))
        return weather(given["city"])

    @property
    def embedder(self) -> str:
        return f"{self.model}-embed"

    def said(self, text: str | None, **more: Any) -> dict[str, Any]:
        """The answer of this job."""
        shown = {"text": text, "tools": self.calls, "usage": self.usage, "pieces": len(self.seen)}
        return shown | more

    @property
    def image_url(self) -> str:
        return f"data:image/png;base64,{self.image}"


def weather(city: str) -> str:
    """What the tool says."""
    return f"sunny in {city}"


Feature = Callable[[Job], dict[str, Any]]


def serve(features: dict[str, Feature], errors: tuple[type[BaseException], ...], packages: tuple[str, ...]) -> None:
    """Say which versions these are and what can be asked, then work until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever an SDK prints is for the log

    def say(found: dict[str, Any]) -> None:
        answers.write(json.dumps(found) + "\n")
        answers.flush()

    say({"versions": {name: version(name) for name in packages}, "features": list(features)})
    for line in sys.stdin:
        job = Job(**json.loads(line))
        try:
            found = features[job.feature](job)
        except errors as error:
            found = {"error": told(error), "text": "".join(job.seen)}
        say(found)


def told(error: BaseException) -> dict[str, Any]:
    """What an exception says; its class is the first public one, the status may be on what it was raised from."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    status = next((one.status_code for one in causes if isinstance(getattr(one, "status_code", None), int)), None)
    kind = next(one.__name__ for one in type(error).__mro__ if not one.__name__.startswith("_"))
    return {"type": kind, "status": status, "message": str(error)[:400]}
