// What a program does with the generated TypeScript client. Prints what it saw, as JSON.
// Arguments: base URL, key, a key whose budget is one picture, two files of reference images.

import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { argv, stdout } from "node:process";

import { createClient, type Client } from "./client/client/index.js";
import { editImages, generateImages, getImage } from "./client/index.js";
import type { GenerateResponse, Operation, Problem } from "./client/index.js";

const [url, key, poorKey, ...paths] = argv.slice(2) as [string, string, string, ...string[]];

function clientOf(key: string): Client {
  return createClient({ baseUrl: url, headers: { "X-API-Key": key } });
}

// Whoever asks for it by `Prefer: respond-async` may get an operation instead of the pictures.
function pictures(answer: GenerateResponse | Operation): GenerateResponse {
  if (!("images" in answer)) throw new Error(`${answer.id} goes on`);
  return answer;
}

async function generated(client: Client): Promise<GenerateResponse> {
  const body = { prompt: "A lighthouse, for TypeScript", image_size: "512", delivery: "uri" } as const;
  return pictures((await generateImages({ client, body, throwOnError: true })).data);
}

async function downloaded(client: Client, image_id: string): Promise<Uint8Array> {
  const { data } = await getImage({ client, path: { image_id }, throwOnError: true });
  return new Uint8Array(await data.arrayBuffer());
}

async function edited(client: Client): Promise<GenerateResponse> {
  const image = await Promise.all(
    paths.map(async (path) => new File([new Uint8Array(await readFile(path))], basename(path))),
  );
  const body = { prompt: "Both as one, for TypeScript: été, 夏", image_size: "512", image };
  return pictures((await editImages({ client, body, throwOnError: true })).data);
}

async function refused(client: Client): Promise<Problem> {
  const body = { prompt: "More than there is left, for TypeScript", image_size: "4K" };
  const { error } = await generateImages({ client, body });
  if (error === undefined) throw new Error("the budget did not refuse");
  return error;
}

const client = clientOf(key);
const made = await generated(client);
const picture = made.images[0];
if (picture === undefined) throw new Error("there is no picture");
const bytes = await downloaded(client, picture.id);
const mixed = await edited(client);
const problem = await refused(clientOf(poorKey));
stdout.write(
  JSON.stringify({
    made: { id: picture.id, tokens: made.usage.image_tokens, width: picture.width },
    bytes: bytes.length,
    sha256: createHash("sha256").update(bytes).digest("hex"),
    edited: {
      tokens: mixed.usage.image_tokens,
      inputs: mixed.usage.image_input,
      data: mixed.images[0]?.data,
    },
    refused: { status: problem.status, code: problem.code, policies: problem.violated_policies },
  }),
);
