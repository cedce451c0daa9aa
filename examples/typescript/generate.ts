// Generates a picture and prints what it cost.
//
//     npx tsx examples/typescript/generate.ts "A lighthouse at dusk" lighthouse.jpg

import { writeFile } from "node:fs/promises";

interface Violation { pointer: string; detail: string }
interface Problem { code: string; detail: string; violations?: Violation[] }
interface Generation { images: { data: string }[]; usage: { image_tokens: number; cost_usd: number } }

const url = process.env.FLASHGATE_URL ?? "http://127.0.0.1:8080";
const key = process.env.FLASHGATE_API_KEY ?? "";
const [prompt = "A lighthouse at dusk", path = "lighthouse.jpg"] = process.argv.slice(2);

const response = await fetch(`${url}/v1/images:generate`, {
  method: "POST",
  headers: { "X-API-Key": key, "Content-Type": "application/json" },
  body: JSON.stringify({ prompt, aspect_ratio: "16:9", image_size: "1K" }),
});
if (!response.ok) {
  const problem = (await response.json()) as Problem; // with every violation of the request in `violations`
  for (const violation of problem.violations ?? []) console.error(`${violation.pointer}: ${violation.detail}`);
  throw new Error(`${problem.code}: ${problem.detail}`);
}
const answer = (await response.json()) as Generation;
await writeFile(path, Buffer.from(answer.images[0]!.data, "base64"));
console.log(`${path}: ${answer.usage.image_tokens} image tokens, $${answer.usage.cost_usd.toFixed(4)}`);
