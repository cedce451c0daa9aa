// What OpenAI's Node SDK sees of a gateway, as one line of JSON.
// Arguments: base URL, key, key of a tenant without a budget, the emulator's URL, a gate's name, two image files.
import { createReadStream } from "node:fs";
import OpenAI, { toFile } from "openai";

const [baseURL, apiKey, poorKey, emulator, gate, ...files] = process.argv.slice(2);
let requests = 0;
const counted = (url, init) => {
  requests += 1;
  return fetch(url, init);
};
const client = new OpenAI({ baseURL, apiKey, fetch: counted });
const poor = client.withOptions({ apiKey: poorKey });
const found = {};

const failure = async (call) => {
  const before = requests;
  try {
    await call();
  } catch (error) {
    const { status, code, type, param } = error;
    return { name: error.constructor.name, status, code, type, param, requests: requests - before };
  }
  return { name: "none" };
};

// Equal requests with a seed are the same work; without one each is its own.
const asked = { prompt: "Node", n: 2, size: "632x424", seed: 7 };
const made = await client.images.generate(asked);
found.made = { size: made.size, usage: made.usage, b64: made.data.map((item) => item.b64_json) };

found.streamed = [];
const stream = await client.images.generate({ ...asked, stream: true });
for await (const event of stream) found.streamed.push([event.type, event.size, event.b64_json]);

const edited = await client.images.edit({
  prompt: "Node",
  quality: "low",
  image: [createReadStream(files[0]), await toFile(createReadStream(files[1]), "second")],
  response_format: "url",
  seed: 7,
  labels: { team: "search" },
});
found.edited = { url: edited.data[0].url, images: edited.usage.input_tokens_details.image_tokens };

const plain = { prompt: "Node, together", quality: "low" };
const together = await Promise.all([1, 2, 3, 4].map(() => client.images.generate(plain)));
together.push(await client.images.generate(plain));
found.together = together.map((answer) => answer.data[0].b64_json);

found.turns = [];
let picture;
for (const prompt of ["Node, a cat", "Make it blue", "Give it a hat"]) {
  const turn = picture
    ? await client.images.edit({ prompt, quality: "low", image: await toFile(picture, "before.jpg") })
    : await client.images.generate({ prompt, quality: "low" });
  found.turns.push(turn.data[0].b64_json);
  picture = Buffer.from(turn.data[0].b64_json, "base64");
}

found.models = [];
for await (const model of client.models.list()) found.models.push(model.id);

found.invalid = await failure(() => client.images.generate({ prompt: "Node", size: "big", style: "vivid" }));
found.unknown = await failure(() => client.images.generate({ prompt: "Node", model: "gpt-image-1" }));
found.blocked = await failure(() => client.images.generate({ prompt: "Node [[emulate:blocked-prompt]]" }));
found.billed = await failure(() => client.images.generate({ prompt: "Node [[emulate:reset]]" }));
found.budget = await failure(() => poor.images.generate({ prompt: "Node", n: 8 }));
found.key = await failure(() => client.withOptions({ apiKey: "wrong" }).images.generate({ prompt: "Node" }));

const leaving = new AbortController();
const left = { prompt: `Node leaves [[emulate:hold:${gate}]]`, quality: "low", seed: 7 };
const call = client.images.generate(left, { signal: leaving.signal });
while (!(await (await fetch(`${emulator}/emulator/held/${gate}`)).json()).held) await new Promise(setImmediate);
leaving.abort();
found.left = await call.then(() => "served", (error) => error.constructor.name);
await fetch(`${emulator}/emulator/release/${gate}`, { method: "POST" });
found.later = (await client.images.generate(left)).data.length;

const calls = async () => (await (await fetch(`${emulator}/emulator/calls`)).json()).generate;
const before = [await calls(), requests];
const slow = { prompt: `Node retries [[emulate:hold:${gate}-retried]]`, quality: "low" };
const retried = client.images.generate(slow, { timeout: 700, maxRetries: 20 });
while (requests - before[1] < 2) await new Promise(setImmediate);
await fetch(`${emulator}/emulator/release/${gate}-retried`, { method: "POST" });
found.retried = { pictures: (await retried).data.length, calls: (await calls()) - before[0] };

console.log(JSON.stringify(found));
