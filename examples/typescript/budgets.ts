// Prints what is left of each budget, and what a 4K picture would cost; nothing is spent.
//
//     npx tsx examples/typescript/budgets.ts

interface Budget { name: string; remaining: number; limit: number; resets_at: string | null }
interface Quote {
  estimate: { image_tokens: number; cost_usd: number };
  would_be_admitted: boolean;
  refused_by: string[];
}

const url = process.env.FLASHGATE_URL ?? "http://127.0.0.1:8080";
const headers = { "X-API-Key": process.env.FLASHGATE_API_KEY ?? "", "Content-Type": "application/json" };

async function call<Answer>(path: string, body?: object): Promise<Answer> {
  const response = await fetch(url + path, body ? { method: "POST", headers, body: JSON.stringify(body) } : { headers });
  if (!response.ok) throw new Error(await response.text());
  return (await response.json()) as Answer;
}

for (const budget of (await call<{ budgets: Budget[] }>("/v1/usage")).budgets) {
  console.log(`${budget.name}: ${budget.remaining} of ${budget.limit} left until ${budget.resets_at}`);
}
const quote = await call<Quote>("/v1/images:estimate", { prompt: "A lighthouse at dusk", image_size: "4K" });
const verdict = quote.would_be_admitted ? "would be served" : `would be refused by ${quote.refused_by}`;
console.log(`4K: ${quote.estimate.image_tokens} image tokens, $${quote.estimate.cost_usd.toFixed(4)}, ${verdict}`);
