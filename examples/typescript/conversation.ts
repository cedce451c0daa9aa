// Draws a picture and changes it twice; each turn continues the generation before it.
//
//     npx tsx examples/typescript/conversation.ts

interface Generation { id: string; images: { uri: string }[] }

const url = process.env.FLASHGATE_URL ?? "http://127.0.0.1:8080";
const key = process.env.FLASHGATE_API_KEY ?? "";

/** One turn; the gateway sends the earlier ones, with their signatures, to the model again. */
async function draw(prompt: string, continueFrom?: string): Promise<Generation> {
  const response = await fetch(`${url}/v1/images:generate`, {
    method: "POST",
    headers: { "X-API-Key": key, "Content-Type": "application/json" },
    body: JSON.stringify({ prompt, delivery: "uri", image_size: "512", continue_from: continueFrom }),
  });
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()) as Generation;
}

let turn = await draw("A lighthouse on a rock, in pencil");
for (const prompt of ["Now in watercolour", "Add a small boat in the foreground"]) {
  console.log(turn.id, turn.images[0]!.uri);
  turn = await draw(prompt, turn.id);
}
console.log(turn.id, turn.images[0]!.uri);
