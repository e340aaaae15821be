// openai-node: `with_openai.mjs chat` or `with_openai.mjs responses`.
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { ASK, CITY, DESCRIPTION, serve } from "./loop.mjs";

const WEATHER = z.object({ city: z.string(), degrees: z.int() });
const QUESTION = [{ role: "user", content: ASK }];
const FUNCTION = { name: "get_weather", description: DESCRIPTION, parameters: CITY, strict: true };

function client(job) {
  return new OpenAI({ baseURL: `${job.url}/v1`, apiKey: job.key, maxRetries: 0, timeout: 30_000 });
}

// --- chat completions

async function chatAnswered(job, messages) {
  const answer = await client(job).chat.completions.create({ model: job.model, messages });
  billChat(job, answer);
  return job.said(answer.choices[0].message.content);
}

async function chatStream(job) {
  const chunks = await client(job).chat.completions.create({
    model: job.model,
    messages: QUESTION,
    stream: true,
    stream_options: { include_usage: true },
  });
  for await (const chunk of chunks) {
    const piece = chunk.choices[0]?.delta.content;
    if (piece) job.seen.push(piece);
    if (chunk.usage) billChat(job, chunk);
  }
  return job.said(job.seen.join(""));
}

async function chatTools(job, answered) {
  const messages = [...QUESTION];
  for (;;) {
    const answer = await answered({ model: job.model, messages, tools: [{ type: "function", function: FUNCTION }] });
    billChat(job, answer);
    const { message } = answer.choices[0];
    if (!message.tool_calls?.length) return job.said(message.content);
    const results = message.tool_calls.map(({ id, function: called }) => ({
      role: "tool",
      tool_call_id: id,
      content: job.call(called.name, called.arguments),
    }));
    messages.push(message, ...results);
  }
}

function chatStreamedTools(job) {
  return chatTools(job, (body) => {
    const stream = client(job).chat.completions.stream({ ...body, stream_options: { include_usage: true } });
    stream.on("content", (piece) => job.seen.push(piece));
    return stream.finalChatCompletion();
  });
}

async function chatSchema(job) {
  const response_format = zodResponseFormat(WEATHER, "weather");
  const answer = await client(job).chat.completions.parse({ model: job.model, messages: QUESTION, response_format });
  billChat(job, answer);
  return job.said(null, { parsed: answer.choices[0].message.parsed });
}

// The list, page by page, and the model by its name.
async function models(job) {
  const listed = [];
  for await (const one of client(job).models.list()) listed.push(one.id);
  return job.said(listed.includes(job.model) ? (await client(job).models.retrieve(job.model)).id : null);
}

// Vectors, which this SDK asks for in base64.
async function embeddings(job) {
  const answer = await client(job).embeddings.create({ model: job.embedder, input: ["Paris", "Rome"] });
  job.billed(answer.usage.prompt_tokens, 0, 0);
  return job.said(null, { parsed: answer.data.map((one) => one.embedding) });
}

function billChat(job, { usage }) {
  job.billed(usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens_details?.cached_tokens);
}

// --- responses

// So that reasoning comes with its signature and goes back to the provider.
const STATELESS = { store: false, include: ["reasoning.encrypted_content"] };

async function responsesAnswered(job, input) {
  const answer = await client(job).responses.create({ model: job.model, input });
  billResponse(job, answer);
  return job.said(answer.output_text);
}

async function responsesStream(job) {
  for await (const event of await client(job).responses.create({ model: job.model, input: ASK, stream: true })) {
    if (event.type === "response.output_text.delta") job.seen.push(event.delta);
    if (event.type === "response.completed") billResponse(job, event.response);
  }
  return job.said(job.seen.join(""));
}

async function responsesTools(job, answered) {
  const input = [...QUESTION];
  for (;;) {
    const answer = await answered({ ...STATELESS, model: job.model, input, tools: [{ type: "function", ...FUNCTION }] });
    billResponse(job, answer);
    const calls = answer.output.filter((item) => item.type === "function_call");
    if (!calls.length) return job.said(answer.output_text);
    const results = calls.map(({ call_id, name, arguments: given }) => ({
      type: "function_call_output",
      call_id,
      output: job.call(name, given),
    }));
    input.push(...answer.output, ...results);
  }
}

function responsesStreamedTools(job) {
  return responsesTools(job, async (body) => {
    const stream = client(job).responses.stream(body);
    stream.on("response.output_text.delta", ({ delta }) => job.seen.push(delta));
    return stream.finalResponse();
  });
}

async function responsesSchema(job) {
  const text = { format: zodTextFormat(WEATHER, "weather") };
  const answer = await client(job).responses.parse({ model: job.model, input: ASK, text });
  billResponse(job, answer);
  return job.said(null, { parsed: answer.output_parsed });
}

function billResponse(job, { usage }) {
  job.billed(usage.input_tokens, usage.output_tokens, usage.input_tokens_details.cached_tokens);
}

const FEATURES = {
  chat: {
    text: (job) => chatAnswered(job, QUESTION),
    stream: chatStream,
    tools: (job) => chatTools(job, (body) => client(job).chat.completions.create(body)),
    streamed_tools: chatStreamedTools,
    schema: chatSchema,
    models,
    embeddings,
    image: (job) => {
      const picture = { type: "image_url", image_url: { url: job.imageUrl } };
      return chatAnswered(job, [{ role: "user", content: [{ type: "text", text: ASK }, picture] }]);
    },
  },
  responses: {
    text: (job) => responsesAnswered(job, ASK),
    stream: responsesStream,
    tools: (job) => responsesTools(job, (body) => client(job).responses.create(body)),
    streamed_tools: responsesStreamedTools,
    schema: responsesSchema,
    image: (job) => {
      const picture = { type: "input_image", image_url: job.imageUrl, detail: "auto" };
      return responsesAnswered(job, [{ role: "user", content: [{ type: "input_text", text: ASK }, picture] }]);
    },
  },
};

await serve(FEATURES[process.argv[2]], (error) => error instanceof OpenAI.OpenAIError, ["openai"]);
