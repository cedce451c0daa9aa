// What Google's Node SDK sees of a gateway, as one line of JSON.
// Arguments: base URL, key, key of a tenant without a budget, an image file.
import { readFileSync } from "node:fs";
import { GoogleGenAI } from "@google/genai";

const [baseUrl, apiKey, poorKey, file] = process.argv.slice(2);
const client = (key, vertexai) => new GoogleGenAI({ vertexai, apiKey: key, httpOptions: { baseUrl } });
const model = "gemini-3.1-flash-image";
const small = { responseModalities: ["IMAGE"], imageConfig: { aspectRatio: "16:9", imageSize: "512" } };
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
const inlineData = { mimeType: "image/png", data: readFileSync(file).toString("base64") };
const edited = await ai.models.generateContent({
  model,
  contents: [{ inlineData }, "Edit it"],
  config: { ...small, thinkingConfig: { includeThoughts: true, thinkingLevel: "HIGH" } },
});
found.edited = edited.candidates[0].content.parts.map((part) => Boolean(part.thought));
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

console.log(JSON.stringify(found));
