#!/bin/sh
# Starts a picture, closes the connection, and fetches the result when it is ready: operation.sh PROMPT FILE
set -eu
: "${FLASHGATE_URL:=http://127.0.0.1:8080}"

operation=$(curl -sS --fail-with-body "$FLASHGATE_URL/v1/images:generate" \
  -H "X-API-Key: $FLASHGATE_API_KEY" -H 'Content-Type: application/json' -H 'Prefer: respond-async' \
  -d "$(jq -n --arg prompt "$1" '{prompt: $prompt, delivery: "uri"}')")
id=$(printf %s "$operation" | jq -r .id)

while state=$(printf %s "$operation" | jq -r .state) && [ "$state" = waiting ] || [ "$state" = running ]; do
  sleep 1
  operation=$(curl -sS --fail-with-body "$FLASHGATE_URL/v1/operations/$id" -H "X-API-Key: $FLASHGATE_API_KEY")
done
if [ "$state" != done ]; then
  printf '%s\n' "$operation" >&2
  exit 1
fi
curl -sS --fail-with-body "$(printf %s "$operation" | jq -r '.result.images[0].uri')" \
  -H "X-API-Key: $FLASHGATE_API_KEY" -o "$2"
