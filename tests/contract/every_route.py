"""Requests to every route, with every field that it reads; some of them are right as a whole."""

from __future__ import annotations

import base64

from tests.contract.mutations import MODEL, PNG, Case

NATIVE = {
    "prompt": "Odd", "model": MODEL, "images": [{"data": PNG, "mime_type": "image/png"}],
    "documents": [{"uri": "gs://b/o.pdf", "mime_type": "application/pdf"}],
    "videos": [{"image_id": "img_" + "0" * 64}], "aspect_ratio": "1:1", "image_size": "512", "n": 1,
    "response_modalities": ["IMAGE"], "output_mime_type": "image/jpeg", "output_compression_quality": 80,
    "delivery": "uri", "temperature": 1.0, "top_p": 0.5, "top_k": 1, "candidate_count": 1, "seed": 7,
    "max_output_tokens": 32768, "thinking_level": "minimal", "system_instruction": "Draw.",
    "safety_settings": [{"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_ONLY_HIGH"}],
    "grounding": {"web_search": False, "image_search": False}, "continue_from": "gen_" + "0" * 24,
    "cache": "use", "service_tier": "standard", "variant": 0, "labels": {"team": "search"},
}  # fmt: skip
VALID_NATIVE = NATIVE | {
    "model": "nano-banana-2", "documents": [], "videos": [], "top_k": None, "continue_from": None,
    "images": [{"data": PNG}], "response_modalities": ["TEXT", "IMAGE"],
}  # fmt: skip
OPENAI = NATIVE | {
    "size": "512x512", "quality": "low", "response_format": "b64_json", "output_format": "jpeg",
    "output_compression": 80, "background": "opaque", "moderation": "auto", "stream": False,
    "partial_images": 0, "user": "u", "safety_identifier": "s", "style": None, "mask": None,
}  # fmt: skip
GEMINI = {
    "model": MODEL,
    "contents": [
        {"role": "user", "parts": [{"text": "Odd"}, {"inlineData": {"mimeType": "image/png", "data": PNG}}]},
        {
            "role": "model",
            "parts": [{"text": "Yes", "thoughtSignature": "AAAA"}, {"thought": True, "text": "x"}],
        },
        {"role": "user", "parts": [{"fileData": {"mimeType": "image/png", "fileUri": "gs://b/o"}}]},
        {"role": "user", "parts": [{"functionCall": {"name": "f", "args": {}}, "videoMetadata": {"fps": 1}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}, "parts": [{}]}}]},
    ],
    "systemInstruction": {"role": "user", "parts": [{"text": "Draw."}]},
    "generationConfig": {
        "responseModalities": ["IMAGE"], "temperature": 1.0, "topP": 0.5, "topK": 1, "candidateCount": 1,
        "seed": 7, "maxOutputTokens": 32768, "stopSequences": ["x"],
        "mediaResolution": "MEDIA_RESOLUTION_LOW",
        "thinkingConfig": {"thinkingLevel": "MINIMAL", "includeThoughts": True, "thinkingBudget": 5},
        "imageConfig": {
            "aspectRatio": "1:1", "imageSize": "512", "personGeneration": "ALLOW_ALL",
            "imageOutputOptions": {"mimeType": "image/jpeg", "compressionQuality": 80},
        },
        "responseFormat": {"image": {"aspectRatio": "1:1", "imageSize": "512"}},
    },
    "safetySettings": [
        {"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_ONLY_HIGH", "method": "SEVERITY"},
    ],
    "tools": [
        {"googleSearch": {"searchTypes": {"webSearch": {}}}}, {"functionDeclarations": [{"name": "f"}]},
    ],
    "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}}, "cachedContent": "cachedContents/x",
    "labels": {"team": "search"}, "serviceTier": "standard", "store": True,
}  # fmt: skip
VALID_GEMINI = {
    "contents": [
        {"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": PNG}}, {"text": "Odd"}]},
        {"role": "model", "parts": [{"text": "Yes", "thoughtSignature": "AAAA"}]},
        {"role": "user", "parts": [{"text": "Go on"}]},
    ],
    "systemInstruction": {"parts": [{"text": "Draw."}]},
    "generationConfig": {
        "responseModalities": ["TEXT", "IMAGE"], "temperature": 1.0, "topP": 0.5, "candidateCount": 1,
        "seed": 7, "maxOutputTokens": 32768, "thinkingConfig": {"thinkingLevel": "MINIMAL"},
        "imageConfig": {"aspectRatio": "1:1", "imageSize": "512"},
    },
    "safetySettings": [{"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "BLOCK_ONLY_HIGH"}],
    "tools": [{"googleSearch": {}}],
}  # fmt: skip
SIMPLE_GEMINI = {
    "contents": {"parts": {"text": "Odd"}}, "serviceTier": "standard", "labels": {"a": "b"},
    "generationConfig": {
        "imageConfig": {"imageSize": "512"}, "seed": 7, "thinkingConfig": {"thinkingLevel": "HIGH"},
    },
}  # fmt: skip
BUDGET = {"unit": "images", "window": "day", "limit": 5, "mode": "enforce", "scope": "tenant",
          "override": {"limit": 6, "until": "2030-01-01T00:00:00Z"}}  # fmt: skip
KEY = {"env": "live", "scopes": ["images"], "budgets": [{**BUDGET, "scope": "key"}], "models": [MODEL],
       "rate": {"requests_per_minute": 5, "burst": 5, "concurrent": 1}, "max_image_size": "1K",
       "preview": ["4K"], "priority": "batch", "not_before": "2026-01-01T00:00:00Z",
       "expires_at": "2030-01-01T00:00:00Z", "project": "p"}  # fmt: skip
TENANT = {"id": "made", "time_zone": "UTC", "models": [MODEL], "max_image_size": "4K", "preview": ["4K"],
          "budgets": [BUDGET], "projects": [{"id": "p", "budgets": [{**BUDGET, "scope": "project"}]}],
          "rate": {"requests_per_minute": 5}, "strict": False, "priority": "batch",
          "cache": {"mode": "use", "ttl_s": 60, "quota_mb": 5},
          "keys": [{"id": "x1", "email": "a@b.iam.gserviceaccount.com", "scopes": ["images"]}]}  # fmt: skip
FORM = (
    ("prompt", b"Odd"), ("image", base64.b64decode(PNG)), ("image_size", b"512"), ("n", b"1"), ("seed", b"7"),
    ("labels", b'{"a": "b"}'), ("safety_settings", b"[]"), ("grounding", b"{}"), ("temperature", b"1"),
    ("response_modalities", b'["IMAGE"]'), ("delivery", b"uri"), ("variant", b"0"), ("model", MODEL.encode()),
    ("output_compression_quality", b"80"), ("cache", b"use"), ("service_tier", b"standard"), ("top_p", b"1"),
)  # fmt: skip
OPENAI_FORM = (
    *(item for item in FORM if item[0] not in {"image_size", "delivery"}), ("size", b"512x512"),
    ("quality", b"low"), ("stream", b"false"), ("partial_images", b"0"), ("output_format", b"jpeg"),
    ("output_compression", b"80"), ("labels[team]", b"x"), ("image[]", base64.b64decode(PNG)), ("user", b"u"),
)  # fmt: skip
PICTURE = "the-picture"
"""Stands for the id of a picture that is there."""
DAYS = (("since", b"2026-11-01"), ("until", b"2026-11-02"))
GOOGLE = f"/gemini/v1beta/models/@{MODEL}"
BASES = [
    Case("POST", "/v1/images:generate", NATIVE),
    Case("POST", "/v1/images:generate", {"prompt": "Odd", "image_size": "512", "seed": 7, "delivery": "uri"}),
    Case("POST", "/v1/images:generate", VALID_NATIVE),
    Case("POST", "/v1/images:estimate", NATIVE),
    Case("POST", "/v1/images:edit", form=FORM),
    Case("GET", f"/v1/images/@{PICTURE}"),
    Case("GET", "/v1/generations/@gen_" + "0" * 24, query=(("delivery", b"uri"),)),
    Case("DELETE", f"/v1/images/@{PICTURE}"),
    Case("DELETE", "/v1/generations/@gen_" + "0" * 24),
    Case("GET", "/v1/models"),
    Case("GET", f"/v1/models/@{MODEL}"),
    Case("GET", "/v1/usage", query=DAYS),
    Case("GET", "/v1/operations/@op_" + "0" * 24),
    Case("POST", "/v1/operations/@op_0:cancel"),
    Case("POST", "/openai/v1/images/generations", OPENAI),
    Case("POST", "/openai/v1/images/generations", {"prompt": "Odd", "size": "512x512", "stream": True}),
    Case("POST", "/openai/v1/images/edits", form=OPENAI_FORM),
    Case("GET", "/openai/v1/models"),
    Case("GET", f"/openai/v1/models/@{MODEL}"),
    Case("POST", f"{GOOGLE}:generateContent", GEMINI),
    Case("POST", f"{GOOGLE}:generateContent", VALID_GEMINI),
    Case("POST", f"{GOOGLE}:generateContent", SIMPLE_GEMINI),
    Case("POST", f"{GOOGLE}:streamGenerateContent", SIMPLE_GEMINI, query=(("alt", b"sse"),)),
    Case("POST", f"{GOOGLE}:countTokens", {"generateContentRequest": GEMINI, **SIMPLE_GEMINI}),
    Case("GET", "/gemini/@v1beta/models", query=(("pageSize", b"5"), ("pageToken", b"1"))),
    Case("GET", GOOGLE),
    Case("GET", f"/gemini/v1/projects/@p/locations/@global/publishers/google/models/@{MODEL}"),
    Case("GET", "/v1/admin/requests"),
    Case("GET", "/v1/admin/credentials"),
    Case("GET", "/v1/admin/tenants"),
    Case("POST", "/v1/admin/tenants", TENANT),
    Case("GET", "/v1/admin/tenants/@everything"),
    Case("PATCH", "/v1/admin/tenants/@made", {**TENANT, "keys": None}, headers=(("If-Match", b"*"),)),
    Case("DELETE", "/v1/admin/tenants/@nobody", headers=(("If-Match", b"*"),)),
    Case("GET", "/v1/admin/tenants/@everything/keys"),
    Case("POST", "/v1/admin/tenants/made/keys", KEY),
    Case("POST", "/v1/admin/tenants/made/identities", {**KEY, "email": "a@b.co", "subject": None}),
    Case("POST", "/v1/admin/tenants/made/keys/@nokey:rotate", {"env": "live", "grace_s": 5}),
    Case("POST", "/v1/admin/tenants/made/keys/@nokey:revoke"),
    Case("POST", "/v1/admin/tenants/everything/budgets:credit",
         {"unit": "images", "amount": 5, "credit_id": "c", "project": None, "key": None}),
    Case("POST", "/v1/admin/tenants/made/budgets:override",
         {"unit": "images", "window": "day", "limit": 5, "until": "2030-01-01T00:00:00Z", "project": None,
          "key": None}),
    Case("GET", "/v1/admin/usage", query=(("tenant", b"made"), ("format", b"csv"))),
    Case("GET", "/v1/admin/usage:report",
         query=(*DAYS, ("by", b"label"), ("format", b"csv"), ("tenant", b"x"))),
    Case("POST", "/v1/admin/cache:purge", {"tenant": "made", "all": False, "fingerprint": "x"}),
    Case("GET", "/v1/admin/audit", query=(("limit", b"5"), ("before", b"1-1"))),
    Case("GET", "/livez"),
    Case("GET", "/readyz"),
    Case("GET", "/metrics"),
    Case("GET", "/openapi.json"),
    Case("GET", "/docs"),
    Case("GET", "/@nowhere"),
]  # fmt: skip
