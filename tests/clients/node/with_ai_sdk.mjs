// The AI SDK: `with_ai_sdk.mjs chat`, `... responses` (@ai-sdk/openai), `... compatible`, `... messages` (@ai-sdk/anthropic).
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { AISDKError, embedMany, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { ASK, DESCRIPTION, serve } from "./loop.mjs";

const WEATHER = z.object({ city: z.string(), degrees: z.int() });
const PLACES = {
  chat: ({ model, ...place }) => createOpenAI(place).chat(model),
  responses: ({ model, ...place }) => createOpenAI(place).responses(model),
  compatible: ({ model, ...place }) =>
    createOpenAICompatible({ name: "tollgate", includeUsage: true, supportsStructuredOutputs: true, ...place })(model),
  messages: ({ model, ...place }) => createAnthropic(place)(model),
};
const EMBEDDERS = {
  chat: ({ model, ...place }) => createOpenAI(place).embeddingModel(model),
  compatible: ({ model, ...place }) => createOpenAICompatible({ name: "tollgate", ...place }).embeddingModel(model),
};
// Without it `responses` would send ids of reasoning that is stored nowhere, instead of the reasoning.
const STATELESS = { store: false, include: ["reasoning.encrypted_content"] };
const WIRE = process.argv[2];

function placeOf(job, model) {
  return { model, baseURL: `${job.url}/v1`, apiKey: job.key };
}

function asked(job, more = {}) {
  const model = PLACES[WIRE](placeOf(job, job.model));
  return { model, prompt: ASK, maxRetries: 0, maxOutputTokens: 500, providerOptions: { openai: STATELESS }, ...more };
}

function withTool(job) {
  const get_weather = tool({
    description: DESCRIPTION,
    inputSchema: z.object({ city: z.string() }),
    execute: async (given) => job.call("get_weather", given),
  });
  return { tools: { get_weather }, stopWhen: stepCountIs(5) };
}

async function generated(job, more) {
  const answer = await generateText(asked(job, more));
  bill(job, answer.totalUsage);
  return answer;
}

// The whole stream, part by part; an error in it is thrown, as its users do.
async function streamed(job, more) {
  const answer = streamText(asked(job, { ...more, onError: () => {} }));
  for await (const part of answer.fullStream) {
    if (part.type === "text-delta") job.seen.push(part.text);
    if (part.type === "error") throw part.error instanceof Error ? part.error : new PartError(part.error);
  }
  bill(job, await answer.totalUsage);
  return answer;
}

function bill(job, usage) {
  job.billed(usage.inputTokens, usage.outputTokens, usage.inputTokenDetails?.cacheReadTokens);
}

// An error part that is no Error: what the provider package made of an error event.
class PartError extends Error {
  constructor(part) {
    super(typeof part === "string" ? part : JSON.stringify(part));
  }
}

const FEATURES = {
  text: async (job) => job.said((await generated(job)).text),
  stream: async (job) => job.said(await (await streamed(job)).text),
  tools: async (job) => job.said((await generated(job, withTool(job))).text),
  streamed_tools: async (job) => job.said(await (await streamed(job, withTool(job))).text),
  schema: async (job) => {
    const { output } = await generated(job, { output: Output.object({ schema: WEATHER }) });
    return job.said(null, { parsed: output });
  },
  streamed_schema: async (job) => {
    const answer = await streamed(job, { output: Output.object({ schema: WEATHER }) });
    return job.said(null, { parsed: await answer.output });
  },
  embeddings: async (job) => {
    const model = EMBEDDERS[WIRE](placeOf(job, job.embedder));
    const answer = await embedMany({ model, values: ["Paris", "Rome"], maxRetries: 0 });
    job.billed(answer.usage.tokens, 0, 0);
    return job.said(null, { parsed: answer.embeddings });
  },
  image: async (job) => {
    const picture = { type: "image", image: job.image, mediaType: "image/png" };
    const messages = [{ role: "user", content: [{ type: "text", text: ASK }, picture] }];
    return job.said((await generated(job, { messages, prompt: undefined })).text);
  },
};

const PACKAGE = { chat: "openai", responses: "openai", compatible: "openai-compatible", messages: "anthropic" }[WIRE];
await serve(FEATURES, (error) => AISDKError.isInstance(error) || error instanceof PartError, ["ai", `@ai-sdk/${PACKAGE}`]);
