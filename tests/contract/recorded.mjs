// Every request of Node's SDKs that is kept as a fixture, in the order of their names.
// Arguments: the recorder's URL, a key, an image file.
import { createReadStream, readFileSync } from "node:fs";
import { GoogleGenAI } from "@google/genai";
import OpenAI, { toFile } from "openai";

const [url, apiKey, file] = process.argv.slice(2);
const model = "gemini-3.1-flash-image";
const inlineData = { mimeType: "image/png", data: readFileSync(file).toString("base64") };
const everything = {
  systemInstruction: "Be calm",
  safetySettings: [{ category: "HARM_CATEGORY_HATE_SPEECH", threshold: "BLOCK_ONLY_HIGH" }],
  tools: [{ googleSearch: { searchTypes: { webSearch: {}, imageSearch: {} } } }],
  labels: { team: "a" },
  temperature: 0.5,
  topP: 0.9,
  maxOutputTokens: 8000,
  seed: 7,
  responseModalities: ["TEXT", "IMAGE"],
  thinkingConfig: { includeThoughts: true, thinkingLevel: "HIGH" },
  imageConfig: { aspectRatio: "16:9", imageSize: "512" },
};
const drain = async (stream) => {
  for await (const piece of stream) void piece;
};

const gemini = new GoogleGenAI({ apiKey, httpOptions: { baseUrl: url } });
const vertex = new GoogleGenAI({ vertexai: true, apiKey, httpOptions: { baseUrl: url } });
await gemini.models.countTokens({ model, contents: ["How many?", { inlineData }] });
for (const ai of [gemini, vertex]) {
  await ai.models.generateContent({ model, contents: ["Draw it", { inlineData }], config: everything });
}
await drain(await gemini.models.generateContentStream({ model, contents: "A fox" }));

const openai = new OpenAI({ baseURL: url, apiKey });
await openai.images.edit({
  model,
  prompt: "Draw it",
  image: [createReadStream(file), await toFile(createReadStream(file), "second")],
  quality: "low",
  labels: { team: "search" },
});
const asked = { model, prompt: "A fox", n: 2, size: "512x512", quality: "low", response_format: "b64_json" };
await openai.images.generate(asked);
await drain(await openai.images.generate({ model, prompt: "A fox", quality: "low", stream: true }));
console.log("{}");
