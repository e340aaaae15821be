// A client's program, as tests/clients/python/loop.py: one job a line on standard input, one answer a line on standard
// output. What is asked and answered is said there.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

console.log = console.info = console.error; // whatever an SDK prints is for the log

export const ASK = "What is the weather in Paris and in Rome?";
export const DESCRIPTION = "The weather in a city.";
export const CITY = {
  type: "object",
  properties: { city: { type: "string" } },
  required: ["city"],
  additionalProperties: false,
};

export class Job {
  seen = [];
  calls = [];
  usage = [0, 0, 0];

  constructor(line) {
    Object.assign(this, JSON.parse(line));
  }

  // Add the usage that the SDK shows for one answer; prompt: cached ones included.
  billed(prompt, completion, cached) {
    this.usage[0] += prompt ?? 0;
    this.usage[1] += completion ?? 0;
    this.usage[2] += cached ?? 0;
  }

  // Run a tool that the model has called; arguments as JSON or parsed.
  call(name, given) {
    const parsed = typeof given === "string" ? JSON.parse(given) : given;
    this.calls.push([name, parsed]);
    return `sunny in ${parsed.city}`;
  }

  said(text, more = {}) {
    return { text, tools: this.calls, usage: this.usage, pieces: this.seen.length, ...more };
  }

  get embedder() {
    return `${this.model}-embed`;
  }

  get imageUrl() {
    return `data:image/png;base64,${this.image}`;
  }
}

// Say which versions these are and what can be asked, then work until standard input ends.
export async function serve(features, isError, packages) {
  const say = (found) => process.stdout.write(JSON.stringify(found) + "\n");
  const version = (name) => JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;
  say({ versions: Object.fromEntries(packages.map((name) => [name, version(name)])), features: Object.keys(features) });
  for await (const line of createInterface({ input: process.stdin })) {
    const job = new Job(line);
    try {
      say(await features[job.feature](job));
    } catch (error) {
      if (!isError(error)) throw error;
      say({ error: told(error), text: job.seen.join("") });
    }
  }
}

function told(error) {
  const status = error.status ?? error.statusCode ?? null;
  const type = error.constructor.name.replace(/^_/, "");
  return { type, status, message: String(error.message).slice(0, 400) };
}
