"""Requests and answers of the native surface, as JSON has them. Image bytes are never in these objects."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.rules import LABELS_MAX, VARIANT_MAX
from app.surfaces.http.amounts import Amount
from app.surfaces.http.problems import WouldFitWire
from app.surfaces.http.reports import UseWire

# Limits that a rule of the card names are said in the schema and judged by the rule, whose words are better.


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class InputReference(_Request):
    """One reference image, document or video: exactly one of `data`, `uri` and `image_id`."""

    data: str | None = Field(
        None,
        description="The bytes in strict base64 (RFC 4648 section 4, padded).",
        examples=[
            "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mP8/x8AAwMCAO+ip1sAAAAASUVORK5CYII="
        ],
    )
    uri: str | None = Field(
        None, description="A Cloud Storage address.", examples=["gs://bucket/reference.png"]
    )
    image_id: str | None = Field(
        None, description="A picture that this tenant was delivered.", examples=["img_" + "0" * 64]
    )
    mime_type: str | None = Field(
        None, description="What the bytes are; read from them if left out.", examples=["image/png"]
    )


class SafetySettingWire(_Request):
    """A harm category and the threshold at which it blocks, in Google's spelling."""

    category: str = Field(description="The harm category.", examples=["HARM_CATEGORY_HATE_SPEECH"])
    threshold: str = Field(description="When it blocks.", examples=["BLOCK_ONLY_HIGH"])


class GroundingWire(_Request):
    """Searches that the model may make before it draws; such results are never cached."""

    web_search: bool = Field(default=False, description="Search the web.", examples=[False])
    image_search: bool = Field(default=False, description="Search for images.", examples=[False])


class Parameters(_Request):
    """What both ways of asking share: everything but the inputs."""

    prompt: str = Field(description="What to draw.", examples=["A lighthouse at dusk, oil on canvas"])
    model: str | None = Field(
        None,
        description="Card id or alias; the configured default if left out.",
        examples=["gemini-3.1-flash-image"],
    )
    aspect_ratio: str | None = Field(
        None, description="One of the card's ratios; the model's choice if left out.", examples=["16:9"]
    )
    image_size: str | None = Field(None, description="512, 1K, 2K or 4K; 1K if left out.", examples=["1K"])
    n: int = Field(1, description="How many pictures, 1 to 8; each is one call of the model.", examples=[1])
    response_modalities: list[str] = Field(
        ["IMAGE"], description='["IMAGE"] or ["TEXT", "IMAGE"].', examples=[["IMAGE"]]
    )
    output_mime_type: str | None = Field(
        None,
        description="Honoured where the upstream lets a caller choose; else a violation.",
        examples=["image/png"],
    )
    output_compression_quality: int | None = Field(
        None, description="JPEG quality, 0 to 100, where the upstream lets a caller choose.", examples=[85]
    )
    delivery: Literal["inline", "uri"] = Field(
        "inline",
        description="inline: the bytes as base64 in the answer; uri: only their addresses.",
        examples=["uri"],
    )
    temperature: float | None = Field(None, description="0.0 to 2.0; 1.0 if left out.", examples=[1.0])
    top_p: float | None = Field(None, description="0.0 to 1.0; 0.95 if left out.", examples=[0.95])
    top_k: int | None = Field(None, description="Not offered by the card: always a violation.", examples=[40])
    candidate_count: int | None = Field(None, description="1; use n for several pictures.", examples=[1])
    seed: int | None = Field(None, description="A 32-bit number for repeatable pictures.", examples=[7])
    max_output_tokens: int | None = Field(None, description="At most 32768.", examples=[32768])
    thinking_level: str | None = Field(None, description="minimal or high.", examples=["minimal"])
    system_instruction: str | None = Field(
        None, description="Standing instructions beside the prompt.", examples=["Draw in pencil."]
    )
    safety_settings: list[SafetySettingWire] = Field([], description="Thresholds by category.", examples=[[]])
    grounding: GroundingWire | None = Field(None, description="Searches the model may make.")
    continue_from: str | None = Field(
        None,
        description="A generation of this tenant to go on from: its prompt, inputs and pictures, and those "
        "of the turns before it, are sent to the model again with their thought signatures. But for the "
        "model no parameter is taken over. All of it counts as input: 1120 tokens a picture.",
        examples=["gen_0123456789abcdef01234567"],
    )
    cache: Literal["use", "refresh", "bypass"] | None = Field(
        None,
        description="use: a kept result will do, or that of a call under way. refresh: draw anew, and keep "
        "it. bypass: draw anew for this request alone. If left out: bypass with an Idempotency-Key and, in "
        "OpenAI's dialect, without a seed; else the tenant's policy.",
        examples=["use"],
    )
    service_tier: Literal["standard", "flex", "priority"] | None = Field(
        None,
        description="How Google is to serve it; the answer says how it did, which is what is paid.",
        examples=["standard"],
    )
    variant: int = Field(
        0,
        description="Another number asks for another picture of the same request.",
        examples=[0],
        json_schema_extra={"minimum": 0, "maximum": VARIANT_MAX},
    )
    labels: dict[str, str] = Field(
        {},
        description=f"For usage reports; at most {LABELS_MAX}.",
        examples=[{"team": "search"}],
        json_schema_extra={"maxProperties": LABELS_MAX},
    )


class GenerateRequest(Parameters):
    """Text, or text with inputs, to images."""

    images: list[InputReference] = Field([], description="Reference images in order, at most 14.")
    documents: list[InputReference] = Field([], description="PDF or plain text.")
    videos: list[InputReference] = Field([], description="Video; a Preview feature.")


class EditForm(Parameters):
    """The same as form fields, with the inputs as file parts; lists and maps are given as JSON."""

    image: list[Any] = Field(
        [], description="Reference images as file parts, in order, at most 14.",
        json_schema_extra={"items": {"type": "string", "format": "binary"}},
    )  # fmt: skip
    document: list[Any] = Field(
        [], description="PDF or plain text as file parts.",
        json_schema_extra={"items": {"type": "string", "format": "binary"}},
    )  # fmt: skip
    video: list[Any] = Field(
        [], description="Video as file parts; a Preview feature.",
        json_schema_extra={"items": {"type": "string", "format": "binary"}},
    )  # fmt: skip


class ImageWire(_Answer):
    """One delivered picture; size and type are read from its bytes."""

    id: str = Field(description="The hash of the bytes.", examples=["img_" + "0" * 64])
    uri: str = Field(description="Where the bytes can be fetched.", examples=["/v1/images/img_" + "0" * 64])
    mime_type: str = Field(description="By signature.", examples=["image/jpeg"])
    width: int = Field(description="Pixels.", examples=[1024])
    height: int = Field(description="Pixels.", examples=[1024])
    bytes: int = Field(description="Length.", examples=[512000])
    image_size: str = Field(description="The size that was asked for and paid.", examples=["1K"])
    data: str | None = Field(
        None, description="The bytes in base64, with delivery inline.", examples=["/9j/4AAQ…"]
    )


class UsageWire(_Answer):
    """Tokens that this request cost, by modality; all zero for what the cache served."""

    input_tokens: int = Field(description="All input.", examples=[24])
    output_tokens: int = Field(description="All output, thinking included.", examples=[1570])
    text_input: int = Field(description="Prompt and documents.", examples=[24])
    image_input: int = Field(description="Reference images.", examples=[0])
    image_output: int = Field(description="Pictures: the unit of the table.", examples=[1120])
    text_output: int = Field(description="Words, and what Google gives no modality.", examples=[450])
    thinking: int = Field(description="Thoughts.", examples=[0])
    estimated: bool = Field(description="True where Google reported nothing.", examples=[False])
    service_tier: str = Field(description="As Google reported it; empty if not.", examples=["standard"])
    cost_usd: float = Field(description="At list price.", examples=[0.06856])


class BudgetWire(_Answer):
    """One budget window of the caller."""

    name: str = Field(
        description="The policy's name, as in the RateLimit headers.", examples=["tenant-day-output_tokens"]
    )
    scope: str = Field(description="tenant, project or key.", examples=["tenant"])
    unit: str = Field(description="output_tokens, total_tokens, images or usd.", examples=["output_tokens"])
    window: str = Field(
        description="minute, hour, day, week or month, in the tenant's time zone; lifetime if prepaid.",
        examples=["day"],
    )
    mode: str = Field(description="enforce, or shadow: counted and never refused.", examples=["enforce"])
    limit: Amount = Field(
        description="In force now, in the unit; dollars for usd. Credit is in it.", examples=[112000]
    )
    credit: Amount = Field(description="The part of the limit that was added by credit.", examples=[0])
    settled: Amount = Field(description="Booked.", examples=[1120])
    held: Amount = Field(description="Reserved by running requests.", examples=[0])
    remaining: Amount = Field(description="Left, never below zero.", examples=[110880])
    resets_at: datetime | None = Field(
        description="When the window ends; null for a lifetime.", examples=["2026-11-23T00:00:00Z"]
    )


class RateWire(_Answer):
    """How often, or how many at once."""

    name: str = Field(
        description="The policy's name, as in the RateLimit headers.", examples=["tenant-requests"]
    )
    scope: str = Field(description="tenant or key.", examples=["tenant"])
    kind: str = Field(
        description="requests, counted by the minute; or concurrent, calls of the model at once.",
        examples=["requests"],
    )
    limit: int = Field(description="Requests a minute, or calls at once.", examples=[600])
    burst: int | None = Field(
        description="Requests that may come at once after a pause; null for concurrent.", examples=[600]
    )
    remaining: int = Field(description="How many would be admitted now.", examples=[599])


class CacheWire(_Answer):
    """How the cache took part."""

    status: Literal["hit", "miss", "coalesced", "bypass"] = Field(
        description="What happened.", examples=["miss"]
    )
    age_s: int = Field(description="Age of the result in seconds.", examples=[0])
    key: str = Field(description="Fingerprint of the request.", examples=["0" * 64])


class WarningWire(_Answer):
    """Something worth knowing about a good answer."""

    code: str = Field(description="For programs.", examples=["normalised_image_size"])
    detail: str = Field(
        description="For people.",
        examples=["image_size was read as 2K, which is the model's spelling."],
    )


class EffectiveWire(_Answer):
    """Every parameter as it was used."""

    model: str = Field(description="Card id.", examples=["gemini-3.1-flash-image"])
    aspect_ratio: str | None = Field(description="null: the model's choice.", examples=["16:9"])
    image_size: str = Field(description="The card's literal.", examples=["1K"])
    n: int = Field(description="Pictures asked for.", examples=[1])
    response_modalities: list[str] = Field(description="As asked.", examples=[["IMAGE"]])
    output_mime_type: str | None = Field(description="null: the upstream's choice.", examples=[None])
    output_compression_quality: int | None = Field(
        description="null: the upstream's choice.", examples=[None]
    )
    temperature: float = Field(description="As used.", examples=[1.0])
    top_p: float = Field(description="As used.", examples=[0.95])
    seeds: list[int | None] = Field(description="One a call; null: none was sent.", examples=[[None]])
    max_output_tokens: int = Field(description="As used.", examples=[32768])
    thinking_level: str = Field(description="As used.", examples=["minimal"])
    variant: int = Field(description="As asked.", examples=[0])
    continue_from: str | None = Field(description="As asked.", examples=[None])


class GenerateResponse(_Answer):
    """A finished generation."""

    id: str = Field(description="Names the generation.", examples=["gen_0123456789abcdef01234567"])
    model: str = Field(description="Card id.", examples=["gemini-3.1-flash-image"])
    created_at: datetime = Field(description="When it was finished.", examples=["2026-11-22T12:00:00Z"])
    images: list[ImageWire] = Field(description="In order.")
    text: str = Field(description="The model's words, if any.", examples=[""])
    finish_reason: str = Field(description="As Google spells it.", examples=["STOP"])
    effective: EffectiveWire = Field(description="Every parameter as it was used.")
    usage: UsageWire = Field(description="What this request cost.")
    budgets: list[BudgetWire] = Field(description="The caller's windows after this request.")
    cache: CacheWire = Field(description="How the cache took part.")
    warnings: list[WarningWire] = Field(description="Worth knowing.", examples=[[]])


class ViolationFound(_Answer):
    """One fault of a request."""

    pointer: str = Field(description="JSON pointer into the request.", examples=["/aspect_ratio"])
    code: str = Field(description="For programs.", examples=["unsupported_aspect_ratio"])
    detail: str = Field(description="For people.", examples=["The model has no ratio 7:3."])
    allowed: list[str | int | float] | None = Field(None, description="What is accepted.", examples=[["1:1"]])


class EstimateWire(_Answer):
    """Tokens that a request may use, all its pictures together; this is what is reserved."""

    text_input: int = Field(description="Prompt and system instruction, by their length.", examples=[7])
    image_input: int = Field(description="Reference images at the card's tokens each.", examples=[0])
    document_input: int = Field(description="Documents, by their length.", examples=[0])
    video_input: int = Field(description="Videos by their seconds, or all that is left.", examples=[0])
    image_output: int = Field(description="Pictures at the table's price.", examples=[1120])
    text_output: int = Field(description="Allowance for words and thoughts.", examples=[600])
    total_tokens: int = Field(description="All of them.", examples=[1727])
    cost_usd: float = Field(description="At list price.", examples=[0.069])


class RefusalWire(_Answer):
    """Why a request would be refused now, as its error would say it."""

    code: str = Field(description="For programs.", examples=["budget_exceeded"])
    detail: str = Field(
        description="For people.", examples=["This request needs up to 2,520 output tokens, …"]
    )
    retryable: bool = Field(description="Whether the same request can succeed later.", examples=[True])
    retry_after_s: int | None = Field(description="When; null where waiting does not help.", examples=[3600])
    would_fit: WouldFitWire | None = Field(
        None, description="What would be admitted instead, right now; null where a rate refuses."
    )


class EstimateResponse(_Answer):
    """What a request would cost and whether it would be served now. Nothing was spent."""

    valid: bool = Field(description="Whether there are no violations.", examples=[True])
    violations: list[ViolationFound] = Field(description="Every fault.", examples=[[]])
    estimate: EstimateWire | None = Field(description="null for a request with faults.")
    would_be_admitted: bool = Field(
        description="Valid, and cached or within every enforced budget.", examples=[True]
    )
    refused_by: list[str] = Field(
        description="Names of the budgets and rates that would refuse.", examples=[[]]
    )
    refusal: RefusalWire | None = Field(
        None, description="What the request would be refused with now; null where it would be admitted."
    )
    cached: bool = Field(
        description="Whether the answer would come from the cache, at no cost.", examples=[False]
    )
    cached_age_s: int | None = Field(description="Age of the cached result.", examples=[None])
    effective: EffectiveWire | None = Field(description="Every parameter as it would be used.")
    budgets: list[BudgetWire] = Field(description="The caller's windows now.")
    warnings: list[WarningWire] = Field(description="Worth knowing.", examples=[[]])


class UsageResponse(_Answer):
    """The caller's budget windows now, and what its key used."""

    tenant: str = Field(description="The caller's tenant.", examples=["demo"])
    project: str | None = Field(description="The project of the caller's key, if any.", examples=["web"])
    key: str = Field(description="The id of the caller's key.", examples=["k1"])
    budgets: list[BudgetWire] = Field(description="Every window that this key is counted in.")
    rates: list[RateWire] = Field(description="Its request rates and caps.")
    since: date = Field(description="First day of UTC of what was used.", examples=["2026-11-01"])
    until: date = Field(description="Last day of UTC of what was used.", examples=["2026-11-22"])
    spent: UseWire = Field(description="What this key used on these days, as far as it is known by now.")
