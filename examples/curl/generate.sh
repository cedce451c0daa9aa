#!/bin/sh
# Generates a picture: generate.sh PROMPT FILE
set -eu
: "${FLASHGATE_URL:=http://127.0.0.1:8080}"

# Accept: image/* asks for the bytes themselves; --fail-with-body prints the problem and exits 22 if there is one.
curl -sS --fail-with-body "$FLASHGATE_URL/v1/images:generate" \
  -H "X-API-Key: $FLASHGATE_API_KEY" -H 'Content-Type: application/json' -H 'Accept: image/*' \
  -d "$(jq -n --arg prompt "$1" '{prompt: $prompt, aspect_ratio: "16:9", image_size: "1K"}')" \
  -o "$2"
