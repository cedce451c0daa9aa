#!/bin/sh
# Prints what is left of each budget, and what a 4K picture would cost; nothing is spent.
set -eu
: "${FLASHGATE_URL:=http://127.0.0.1:8080}"

curl -sS --fail-with-body "$FLASHGATE_URL/v1/usage" -H "X-API-Key: $FLASHGATE_API_KEY" |
  jq -r '.budgets[] | "\(.name): \(.remaining) of \(.limit) left until \(.resets_at)"'

curl -sS --fail-with-body "$FLASHGATE_URL/v1/images:estimate" \
  -H "X-API-Key: $FLASHGATE_API_KEY" -H 'Content-Type: application/json' \
  -d '{"prompt": "A lighthouse at dusk", "image_size": "4K"}' |
  jq -r '"4K: \(.estimate.image_tokens) image tokens, $\(.estimate.cost_usd), admitted now: \(.would_be_admitted)"'
