// Google's former SDK for JavaScript, @google/generative-ai.
import { readFileSync } from "node:fs";
import { GoogleGenerativeAI } from "@google/generative-ai";
import { ask } from "./asking.mjs";

const [url, key, file] = process.argv.slice(2);
const inlineData = { mimeType: "image/png", data: readFileSync(file).toString("base64") };

const draw = async (parts, imageSize = "512") => {
  const model = new GoogleGenerativeAI(key).getGenerativeModel(
    {
      model: "gemini-3.1-flash-image",
      systemInstruction: "Be calm",
      generationConfig: {
        responseModalities: ["TEXT", "IMAGE"], imageConfig: { aspectRatio: "16:9", imageSize },
        temperature: 0.5, topP: 0.9, maxOutputTokens: 8000,
      },
      safetySettings: [{ category: "HARM_CATEGORY_HATE_SPEECH", threshold: "BLOCK_ONLY_HIGH" }],
    },
    { baseUrl: `${url}/gemini` },
  );
  const { response } = await model.generateContent(parts);
  return response.candidates[0].content.parts.filter((part) => part.inlineData).map((part) => part.inlineData.data);
};

await ask({
  generate: () => draw(["A fox"]),
  edit: () => draw(["Make it blue", { inlineData }]),
  four: async () => (await Promise.all([1, 2, 3, 4].map(() => draw(["Four foxes"])))).flat(),
  invalid: () => draw(["A wolf"], "9K"),
});
