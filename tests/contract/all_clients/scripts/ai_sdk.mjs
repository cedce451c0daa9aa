// Vercel's AI SDK on its providers for Google, OpenAI and whatever is compatible with OpenAI.
import { readFileSync } from "node:fs";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateImage, generateText } from "ai";
import { ask } from "./asking.mjs";

const [provider, url, key, file] = process.argv.slice(2);
const id = "gemini-3.1-flash-image";
const baseURL = `${url}/openai/v1`;
const models = {
  google: () => createGoogleGenerativeAI({ baseURL: `${url}/gemini/v1beta`, apiKey: key }),
  openai: () => createOpenAI({ baseURL, apiKey: key }).image(id),
  compatible: () => createOpenAICompatible({ name: "flashgate", baseURL, apiKey: key }).imageModel(id),
};
const model = models[provider]();
const picture = readFileSync(file);

// A language model of Google's provider draws in its text; there is one call for each picture.
const asText = {
  draw: async (prompt, images, name = id) => {
    const content = [{ type: "text", text: prompt }, ...images.map((image) => ({ type: "image", image }))];
    const google = {
      responseModalities: ["TEXT", "IMAGE"],
      imageConfig: { aspectRatio: "16:9", imageSize: "512" },
      safetySettings: [{ category: "HARM_CATEGORY_HATE_SPEECH", threshold: "BLOCK_ONLY_HIGH" }],
      thinkingConfig: { thinkingLevel: "high" },
    };
    const answer = await generateText({
      model: model(name), messages: [{ role: "user", content }], maxRetries: 0,
      temperature: 0.5, topP: 0.9, providerOptions: { google },
    });
    return answer.files.map((each) => each.base64);
  },
};
const asImage = {
  draw: async (prompt, images, size = "512x512", n = 1) => {
    const asked = images.length ? { text: prompt, images } : prompt;
    const options = { openai: { quality: "low" }, flashgate: { quality: "low" } };
    const answer = await generateImage({
      model, prompt: asked, size, n, maxRetries: 0, providerOptions: options, seed: n === 1 ? 7 : undefined,
    });
    return answer.images.map((each) => each.base64);
  },
};
const { draw } = provider === "google" ? asText : asImage;

await ask({
  generate: () => draw("A fox", []),
  edit: () => draw("Make it blue", [picture]),
  four: async () => {
    if (provider !== "google") return draw("Four foxes", [], "512x512", 4);
    return (await Promise.all([1, 2, 3, 4].map(() => draw("Four foxes", [])))).flat();
  },
  invalid: () => draw("A wolf", [], provider === "google" ? "gemini-9-image" : "9x9x9"),
});
