// What Google's Node SDK sees of a gateway, as one line of JSON.
// Arguments: base URL, key, key of a tenant without a budget, the emulator's URL, a gate's name, two image files.
import { readFileSync } from "node:fs";
import { GoogleGenAI } from "@google/genai";

const [baseUrl, apiKey, poorKey, emulator, gate, ...files] = process.argv.slice(2);
const client = (key, vertexai) => new GoogleGenAI({ vertexai, apiKey: key, httpOptions: { baseUrl } });
const model = "gemini-3.1-flash-image";
// Equal requests with a seed are the same work; without one each is its own.
const small = { responseModalities: ["IMAGE"], imageConfig: { aspectRatio: "16:9", imageSize: "512" }, seed: 7 };
const found = {};

const pictures = (answer) =>
  (answer.candidates?.[0]?.content?.parts ?? [])
    .filter((part) => part.inlineData && !part.thought)
    .map((part) => part.inlineData.data);

const failure = async (call) => {
  try {
    await call();
  } catch (error) {
    return { name: error.name, status: error.status, error: JSON.parse(error.message).error };
  }
  return { name: "none" };
};

for (const vertexai of [false, true]) {
  const ai = client(apiKey, vertexai);
  const made = await ai.models.generateContent({ model, contents: "Node", config: small });
  const streamed = [];
  const stream = await ai.models.generateContentStream({ model, contents: "Node", config: small });
  for await (const chunk of stream) streamed.push(...pictures(chunk));
  const chat = ai.chats.create({ model, config: small });
  const turns = [];
  for (const message of ["A cat", "Make it blue", "Give it a hat"]) {
    turns.push(...pictures(await chat.sendMessage({ message })));
  }
  found[vertexai ? "vertex" : "gemini"] = {
    made: pictures(made),
    usage: made.usageMetadata,
    streamed,
    turns,
  };
}

const ai = client(apiKey, false);
const types = ["image/png", "image/webp"];
const parts = files.map((file, at) => ({
  inlineData: { mimeType: types[at], data: readFileSync(file).toString("base64") },
}));
const edited = await ai.models.generateContent({
  model,
  contents: [...parts, "Edit them"],
  config: { ...small, thinkingConfig: { includeThoughts: true, thinkingLevel: "HIGH" } },
});
found.edited = {
  thoughts: edited.candidates[0].content.parts.map((part) => Boolean(part.thought)),
  read: edited.usageMetadata.promptTokensDetails,
};
const plain = { model, contents: "Node, together", config: { ...small, seed: undefined } };
const together = await Promise.all([1, 2, 3, 4].map(() => ai.models.generateContent(plain)));
together.push(await ai.models.generateContent(plain));
found.together = together.flatMap(pictures);
found.counted = (await ai.models.countTokens({ model, contents: "How many are these?" })).totalTokens;
found.models = [];
for await (const each of await ai.models.list()) found.models.push(each.name);
const wrong = { imageConfig: { imageSize: "9K" } };
found.invalid = await failure(() => ai.models.generateContent({ model, contents: "Node", config: wrong }));
const blocked = await ai.models.generateContent({ model, contents: "Node [[emulate:blocked-prompt]]" });
found.blocked = blocked.promptFeedback;
const large = { imageConfig: { imageSize: "2K" } };
const poor = client(poorKey, false);
found.budget = await failure(() => poor.models.generateContent({ model, contents: "Node", config: large }));
found.key = await failure(() => client("wrong", false).models.generateContent({ model, contents: "Node" }));

const leaving = new AbortController();
const left = { model, contents: `Node leaves [[emulate:hold:${gate}]]`, config: small };
const call = ai.models.generateContent({ ...left, config: { ...small, abortSignal: leaving.signal } });
while (!(await (await fetch(`${emulator}/emulator/held/${gate}`)).json()).held) await new Promise(setImmediate);
leaving.abort();
found.left = await call.then(() => "served", (error) => error.name);
await fetch(`${emulator}/emulator/release/${gate}`, { method: "POST" });
found.later = pictures(await ai.models.generateContent(left)).length;

console.log(JSON.stringify(found));
