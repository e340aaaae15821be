// anthropic-node: `with_anthropic.mjs messages`.
import Anthropic from "@anthropic-ai/sdk";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";
import { ASK, CITY, DESCRIPTION, serve } from "./loop.mjs";

const WEATHER = z.object({ city: z.string(), degrees: z.int() });
const QUESTION = [{ role: "user", content: ASK }];
const TOOLS = [{ name: "get_weather", description: DESCRIPTION, input_schema: CITY }];

function client(job) {
  return new Anthropic({ baseURL: job.url, apiKey: job.key, maxRetries: 0, timeout: 30_000 });
}

async function answered(job, messages) {
  const answer = await client(job).messages.create({ model: job.model, max_tokens: 500, messages });
  bill(job, answer);
  return job.said(textOf(answer));
}

function streamed(job, body) {
  const stream = client(job).messages.stream({ model: job.model, max_tokens: 500, ...body });
  stream.on("text", (piece) => job.seen.push(piece));
  return stream.finalMessage();
}

async function tools(job, ask) {
  const messages = [...QUESTION];
  for (;;) {
    const answer = await ask({ model: job.model, max_tokens: 500, messages, tools: TOOLS });
    bill(job, answer);
    if (answer.stop_reason !== "tool_use") return job.said(textOf(answer));
    const results = answer.content
      .filter((block) => block.type === "tool_use")
      .map(({ id, name, input }) => ({ type: "tool_result", tool_use_id: id, content: job.call(name, input) }));
    messages.push({ role: "assistant", content: answer.content }, { role: "user", content: results });
  }
}

function textOf(answer) {
  return answer.content
    .filter((block) => block.type === "text")
    .map((block) => block.text)
    .join("");
}

function bill(job, { usage }) {
  const read = usage.cache_read_input_tokens ?? 0;
  job.billed(usage.input_tokens + read + (usage.cache_creation_input_tokens ?? 0), usage.output_tokens, read);
}

const FEATURES = {
  text: (job) => answered(job, QUESTION),
  stream: async (job) => {
    const answer = await streamed(job, { messages: QUESTION });
    bill(job, answer);
    return job.said(textOf(answer));
  },
  tools: (job) => tools(job, (body) => client(job).messages.create(body)),
  streamed_tools: (job) => tools(job, (body) => streamed(job, body)),
  schema: async (job) => {
    const output_config = { format: zodOutputFormat(WEATHER) };
    const body = { model: job.model, max_tokens: 500, messages: QUESTION, output_config };
    const answer = await client(job).messages.parse(body);
    bill(job, answer);
    return job.said(null, { parsed: answer.parsed_output });
  },
  // The list, page by page, and the model by its name.
  models: async (job) => {
    const listed = [];
    for await (const one of client(job).models.list()) listed.push(one.id);
    return job.said(listed.includes(job.model) ? (await client(job).models.retrieve(job.model)).id : null);
  },
  count_tokens: async (job) => {
    const answer = await client(job).messages.countTokens({ model: job.model, messages: QUESTION });
    return job.said(null, { counted: answer.input_tokens });
  },
  image: (job) => {
    const source = { type: "base64", media_type: "image/png", data: job.image };
    return answered(job, [{ role: "user", content: [{ type: "text", text: ASK }, { type: "image", source }] }]);
  },
};

await serve(FEATURES, (error) => error instanceof Anthropic.AnthropicError, ["@anthropic-ai/sdk"]);
