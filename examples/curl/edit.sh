#!/bin/sh
# Changes a picture by a prompt: edit.sh PROMPT SOURCE TARGET
set -eu
: "${FLASHGATE_URL:=http://127.0.0.1:8080}"

curl -sS --fail-with-body "$FLASHGATE_URL/v1/images:edit" \
  -H "X-API-Key: $FLASHGATE_API_KEY" -H 'Accept: image/*' \
  -F "prompt=$1" -F "image=@$2" -o "$3"
