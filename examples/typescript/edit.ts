// Changes a picture by a prompt; the file is sent as a form, and the response is the bytes of the new picture.
//
//     npx tsx examples/typescript/edit.ts "The same at night" lighthouse.jpg night.jpg

import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";

const url = process.env.FLASHGATE_URL ?? "http://127.0.0.1:8080";
const key = process.env.FLASHGATE_API_KEY ?? "";
const [prompt = "The same at night", source = "lighthouse.jpg", target = "night.jpg"] = process.argv.slice(2);

const form = new FormData();
form.set("prompt", prompt);
form.set("image", new Blob([await readFile(source)]), "image");
const response = await fetch(`${url}/v1/images:edit`, {
  method: "POST",
  // With an Idempotency-Key, a repeat of this request is never paid again.
  headers: { "X-API-Key": key, Accept: "image/*", "Idempotency-Key": randomUUID() },
  body: form,
});
if (!response.ok) throw new Error(await response.text());
await writeFile(target, Buffer.from(await response.arrayBuffer()));
console.log(`${target}: ${response.headers.get("Content-Type")}, ${response.headers.get("X-Flashgate-Generation")}`);
