"""A refusal that is passed on tells the caller what to mend, and nothing of the deployment."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.domain.errors import UpstreamInvalidRequest
from app.upstream.google.redaction import WITHHELD, redact
from tests.upstream.conftest import asked, calling, lasting
from tests.upstream.server import answering, upstream

SECRETS = ("pixels-prod-4711", "123456789012", "gateway@pixels-prod-4711.iam.gserviceaccount.com", "AIza")
TOLD = [
    "Publisher Model `projects/pixels-prod-4711/locations/global/publishers/google/models/x` is not there.",
    "Request field `cachedContent` names projects/123456789012/locations/global/cachedContents/7.",
    "Vertex AI API has not been used in project 123456789012 before or it is disabled.",
    "Enable it at https://console.developers.google.com/apis/api/x/overview?project=123456789012 then retry.",
    'Project number "123456789012" may not read gs://a/b.',
    "Caller's project doesn't match resource project: 'pixels-prod-4711'.",
    "The project_number: 123456789012 has no quota.",
    "Service account gateway@pixels-prod-4711.iam.gserviceaccount.com does not have storage.objects.get.",
    "service-123456789012@gcp-sa-aiplatform.iam.gserviceaccount.com cannot read the object.",
    "API key AIzaSyA1234567890abcdefghijklmnopqrstuv is not valid for this.",
    "The bucket of pixels-prod-4711 is in another region.",
]


@pytest.mark.parametrize("sentence", TOLD)
def test_projects_accounts_and_keys_are_withheld(sentence: str) -> None:
    for text in (sentence, json.dumps({"error": {"message": sentence}})):
        found = redact(text, "pixels-prod-4711")
        assert not any(secret in found for secret in SECRETS)
        assert WITHHELD in found


def test_members_of_details_are_withheld_and_the_rest_is_json_still() -> None:
    info = {"consumer": "projects/123456789012", "containerInfo": "123456789012", "service": "aiplatform"}
    info |= {"projectId": "pixels-prod-4711", "project_number": "123456789012"}
    body: dict[str, Any] = {
        "error": {
            "code": 400,
            "message": "Invalid value at 'generation_config.seed'",
            "details": [
                {"metadata": {**info, "projectId": "pixels-prod-4711", "project_number": "123456789012"}}
            ],
        }
    }
    for text in (json.dumps(body), json.dumps(body, indent=2), json.dumps(body).replace("/", "\\/")):
        found = json.loads(redact(text))
        assert found["error"]["message"] == body["error"]["message"]
        metadata = found["error"]["details"][0]["metadata"]
        assert metadata.pop("service") == "aiplatform"
        assert all(WITHHELD in value for value in metadata.values())


@pytest.mark.parametrize(
    "sentence",
    [
        "Invalid value at 'contents[0].parts[1].inline_data.data' (TYPE_BYTES), Base64 decoding failed",
        "Unable to submit request because the aspect ratio 7:3 is not supported. projects and projectors",
        "The prompt 'a project management chart of project apollo in 12345 colours' is too long",
        "gs://my-bucket/project/file-123456789012.png was not found",
    ],
)
def test_what_is_to_be_mended_is_told_as_it_was(sentence: str) -> None:
    assert redact(sentence, "pixels-prod-4711") == sentence


async def test_what_a_caller_gets_of_a_refusal_holds_no_project() -> None:
    refusal = {"error": {"code": 400, "message": TOLD[0], "status": "INVALID_ARGUMENT"}}
    async with upstream() as server, calling(server.url) as model:
        server.reply = answering(refusal, 400)
        with pytest.raises(UpstreamInvalidRequest) as raised:
            await model.generate(asked(), None, lasting(30))
    told = json.loads(raised.value.verbatim)["error"]
    assert told["message"] == TOLD[0].replace("pixels-prod-4711", WITHHELD)
    assert told["status"] == "INVALID_ARGUMENT"
