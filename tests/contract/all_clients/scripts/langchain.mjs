// LangChain for JavaScript on its package for Google.
import { readFileSync } from "node:fs";
import { HumanMessage } from "@langchain/core/messages";
import { ChatGoogleGenerativeAI } from "@langchain/google-genai";
import { ask } from "./asking.mjs";

const [url, key, file] = process.argv.slice(2);
const data = readFileSync(file).toString("base64");
const model = new ChatGoogleGenerativeAI({
  model: "gemini-3.1-flash-image", apiKey: key, baseUrl: `${url}/gemini`, maxRetries: 0,
  temperature: 0.5, topP: 0.9, maxOutputTokens: 8000,
  safetySettings: [{ category: "HARM_CATEGORY_HATE_SPEECH", threshold: "BLOCK_ONLY_HIGH" }],
});

const draw = async (prompt, parts = [], options = {}) => {
  const content = [{ type: "text", text: prompt }, ...parts];
  const answer = await model.invoke([new HumanMessage({ content })], options);
  const blocks = Array.isArray(answer.content) ? answer.content : [];
  return blocks.filter((each) => each.type === "inlineData" || each.type === "image").map((each) => each.inlineData?.data ?? each.data);
};

await ask({
  generate: () => draw("A fox"),
  edit: () => draw("Make it blue", [{ type: "image_url", image_url: `data:image/png;base64,${data}` }]),
  four: async () => (await Promise.all([1, 2, 3, 4].map(() => draw("Four foxes")))).flat(),
  invalid: () => new ChatGoogleGenerativeAI({
    model: "gemini-9-image", apiKey: key, baseUrl: `${url}/gemini`, maxRetries: 0,
  }).invoke("A wolf"),
});
