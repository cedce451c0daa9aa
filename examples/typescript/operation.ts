// Starts a picture, closes the connection, and fetches the result when it is ready.
//
//     npx tsx examples/typescript/operation.ts "A lighthouse at dusk" lighthouse.jpg

import { writeFile } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";

interface Picture { uri: string; width: number; height: number }
interface Operation {
  state: "waiting" | "running" | "done" | "failed" | "cancelled" | "lost";
  result: { id: string; images: Picture[] } | null;
  problem: { code: string; detail: string } | null;
}

const url = process.env.FLASHGATE_URL ?? "http://127.0.0.1:8080";
const headers = { "X-API-Key": process.env.FLASHGATE_API_KEY ?? "", "Content-Type": "application/json" };
const [prompt = "A lighthouse at dusk", path = "lighthouse.jpg"] = process.argv.slice(2);

const started = await fetch(`${url}/v1/images:generate`, {
  method: "POST",
  headers: { ...headers, Prefer: "respond-async" },
  body: JSON.stringify({ prompt, delivery: "uri" }),
});
if (!started.ok) throw new Error(await started.text());
let operation = (await started.json()) as Operation;
const address = new URL(started.headers.get("Location")!, url);
while (operation.state === "waiting" || operation.state === "running") {
  await setTimeout(1000);
  operation = (await (await fetch(address, { headers })).json()) as Operation;
}
if (operation.result === null) throw new Error(`${operation.state}: ${operation.problem?.detail}`);

const picture = operation.result.images[0]!;
const bytes = await (await fetch(picture.uri, { headers })).arrayBuffer();
await writeFile(path, Buffer.from(bytes));
console.log(`${path}: ${picture.width}x${picture.height}, ${operation.result.id}`);
