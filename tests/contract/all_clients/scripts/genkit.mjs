// Genkit on its plugin for Google.
import { readFileSync } from "node:fs";
import { googleAI } from "@genkit-ai/google-genai";
import { genkit } from "genkit";
import { ask } from "./asking.mjs";

const [url, key, file] = process.argv.slice(2);
const data = readFileSync(file).toString("base64");
const ai = genkit({ plugins: [googleAI({ apiKey: key, baseUrl: `${url}/gemini` })] });

const draw = async (prompt, media = [], imageSize = "512") => {
  const answer = await ai.generate({
    model: googleAI.model("gemini-3.1-flash-image"),
    prompt: [...media, { text: prompt }],
    config: {
      responseModalities: ["TEXT", "IMAGE"], imageConfig: { aspectRatio: "16:9", imageSize },
      temperature: 0.5, topP: 0.9, maxOutputTokens: 8000,
      safetySettings: [{ category: "HARM_CATEGORY_HATE_SPEECH", threshold: "BLOCK_ONLY_HIGH" }],
    },
  });
  return answer.message.content.filter((part) => part.media).map((part) => part.media.url.split(",")[1]);
};

await ask({
  generate: () => draw("A fox"),
  edit: () => draw("Make it blue", [{ media: { url: `data:image/png;base64,${data}`, contentType: "image/png" } }]),
  four: async () => (await Promise.all([1, 2, 3, 4].map(() => draw("Four foxes")))).flat(),
  invalid: () => draw("A wolf", [], "9K"),
});
