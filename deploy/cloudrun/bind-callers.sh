#!/bin/sh
# Lets the named callers invoke the Cloud Run service, which stays closed to everybody else.
#
#   PROJECT=… REGION=… deploy/cloudrun/bind-callers.sh search@$PROJECT.iam.gserviceaccount.com …
#
# A caller then sends its ID token (audience: the service's URL) in X-Serverless-Authorization and its
# gateway key in X-API-Key. The token decides who may call, the key decides whose budget is used.
set -eu

: "${PROJECT:?the Google Cloud project}" "${REGION:?the region of the service}"
service=${SERVICE:-flashgate}
[ $# -gt 0 ] || { echo "name at least one service account" >&2; exit 2; }

for account in "$@"; do
    case $account in
        allUsers | allAuthenticatedUsers) echo "$account: not here" >&2; exit 2 ;;
        *:*) member=$account ;;
        *) member=serviceAccount:$account ;;
    esac
    gcloud run services add-iam-policy-binding "$service" --project "$PROJECT" --region "$REGION" \
        --member "$member" --role roles/run.invoker --quiet >/dev/null
    echo "$member may call $service"
done
