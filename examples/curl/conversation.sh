#!/bin/sh
# Draws a picture and changes it twice; each turn continues the generation before it.
set -eu
: "${FLASHGATE_URL:=http://127.0.0.1:8080}"

draw() {
  curl -sS --fail-with-body "$FLASHGATE_URL/v1/images:generate" \
    -H "X-API-Key: $FLASHGATE_API_KEY" -H 'Content-Type: application/json' \
    -d "$(jq -n --arg prompt "$1" --arg from "$2" \
      '{prompt: $prompt, delivery: "uri", image_size: "512"} + if $from == "" then {} else {continue_from: $from} end')"
}

generation=""
for prompt in 'A lighthouse on a rock, in pencil' 'Now in watercolour' 'Add a small boat in the foreground'; do
  answer=$(draw "$prompt" "$generation")
  generation=$(printf %s "$answer" | jq -r .id)
  printf %s "$answer" | jq -r '"\(.id) \(.images[0].uri)"'
done
