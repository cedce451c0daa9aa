"""JSON requests and responses of the native surface. These objects never hold image bytes."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.budget import UNITS
from app.domain.end_user import NAME_LENGTH_MAX
from app.domain.rules import LABELS_MAX, VARIANT_MAX
from app.surfaces.http.amounts import Amount
from app.surfaces.http.problems import WouldFitWire
from app.surfaces.http.reports import UseWire

# Limits that the card's rules check are only documented here: the rules have better messages.


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Response(BaseModel):
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
        None,
        description="Cloud Storage URI; Google fetches the file.",
        examples=["gs://bucket/reference.png"],
    )
    image_id: str | None = Field(
        None, description="Id of a picture that was delivered to this tenant.", examples=["img_" + "0" * 64]
    )
    mime_type: str | None = Field(
        None, description="Media type; detected if omitted.", examples=["image/png"]
    )


class SafetySettingWire(_Request):
    """A harm category and its blocking threshold, in Google's spelling."""

    category: str = Field(description="Harm category.", examples=["HARM_CATEGORY_HATE_SPEECH"])
    threshold: str = Field(description="Blocking threshold.", examples=["BLOCK_ONLY_HIGH"])


class GroundingWire(_Request):
    """Searches that the model may run before it draws; grounded results are never cached."""

    web_search: bool = Field(default=False, description="Allow web search.", examples=[False])
    image_search: bool = Field(default=False, description="Allow image search.", examples=[False])


class Parameters(_Request):
    """Request parameters other than the inputs."""

    prompt: str = Field(
        description="Text that describes the picture.", examples=["A lighthouse at dusk, oil on canvas"]
    )
    model: str | None = Field(
        None,
        description="Model id or alias; the configured default if omitted.",
        examples=["gemini-3.1-flash-image"],
    )
    aspect_ratio: str | None = Field(
        None, description="Aspect ratio; the model's choice if omitted.", examples=["16:9"]
    )
    image_size: str | None = Field(None, description="512, 1K, 2K or 4K; 1K if omitted.", examples=["1K"])
    n: int = Field(1, description="Number of pictures, 1 to 8, one model call each.", examples=[1])
    response_modalities: list[str] = Field(
        ["IMAGE"], description='Outputs: ["IMAGE"] or ["TEXT", "IMAGE"].', examples=[["IMAGE"]]
    )
    output_mime_type: str | None = Field(
        None,
        description="Media type of the pictures, where the back end lets callers choose.",
        examples=["image/png"],
    )
    output_compression_quality: int | None = Field(
        None, description="JPEG quality, 0 to 100, where the back end lets callers choose.", examples=[85]
    )
    delivery: Literal["inline", "uri"] = Field(
        "inline",
        description="inline: pictures as base64 in the response; uri: only their URLs.",
        examples=["uri"],
    )
    temperature: float | None = Field(
        None, description="Sampling temperature, 0.0 to 2.0; 1.0 if omitted.", examples=[1.0]
    )
    top_p: float | None = Field(
        None, description="Nucleus sampling, 0.0 to 1.0; 0.95 if omitted.", examples=[0.95]
    )
    top_k: int | None = Field(None, description="Not supported by the model: always refused.", examples=[40])
    candidate_count: int | None = Field(
        None, description="Must be 1; use n for several pictures.", examples=[1]
    )
    seed: int | None = Field(None, description="32-bit seed for repeatable pictures.", examples=[7])
    max_output_tokens: int | None = Field(
        None, description="Output tokens per model call, at most 32768.", examples=[32768]
    )
    thinking_level: str | None = Field(
        None, description="How much the model thinks: minimal or high.", examples=["minimal"]
    )
    system_instruction: str | None = Field(
        None, description="Instructions in addition to the prompt.", examples=["Draw in pencil."]
    )
    safety_settings: list[SafetySettingWire] = Field(
        [], description="Blocking thresholds by harm category.", examples=[[]]
    )
    grounding: GroundingWire | None = Field(None, description="Searches that the model may run.")
    continue_from: str | None = Field(
        None,
        description="Id of a generation of this tenant to continue. Its prompt, inputs and pictures, and "
        "those of earlier turns, are sent again with their thought signatures, and count as input: 1120 "
        "tokens per picture. Apart from the model, no parameter is inherited.",
        examples=["gen_0123456789abcdef01234567"],
    )
    cache: Literal["use", "refresh", "bypass"] | None = Field(
        None,
        description="use: accept a cached result or share a call in flight. refresh: generate again, "
        "and cache. bypass: generate for this request alone. If omitted: bypass with an Idempotency-Key and, "
        "in OpenAI's dialect, without a seed; otherwise the tenant's policy.",
        examples=["use"],
    )
    service_tier: Literal["standard", "flex", "priority"] | None = Field(
        None, description="Service tier to request; the one in the response is billed.", examples=["standard"]
    )
    variant: int = Field(
        0,
        description="Change it to get a different picture.",
        examples=[0],
        json_schema_extra={"minimum": 0, "maximum": VARIANT_MAX},
    )
    labels: dict[str, str] = Field(
        {},
        description=f"Labels for usage reports, at most {LABELS_MAX}.",
        examples=[{"team": "search"}],
        json_schema_extra={"maxProperties": LABELS_MAX},
    )
    user: str | None = Field(
        None,
        description="Name of the end user that the request is for, whose budgets and rates then apply; only "
        "a keyed hash of it is stored. `X-Flashgate-User` does the same.",
        examples=["user-1234"],
        json_schema_extra={"minLength": 1, "maxLength": NAME_LENGTH_MAX},
    )
    max_cost_usd: float | None = Field(
        None,
        gt=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="US dollars that the request may cost at most; if it can cost more, it is refused.",
        examples=[0.25],
    )


class GenerateRequest(Parameters):
    """A request for pictures from text, with optional inputs."""

    images: list[InputReference] = Field([], description="Reference images, in order; at most 14.")
    documents: list[InputReference] = Field([], description="PDF or plain text documents.")
    videos: list[InputReference] = Field([], description="Videos; a Preview feature.")


class EditForm(Parameters):
    """The parameters as form fields and the inputs as file parts; lists and maps are given as JSON."""

    image: list[Any] = Field(
        [], description="Reference images as file parts, in order.",
        json_schema_extra={"items": {"type": "string", "format": "binary"}},
    )  # fmt: skip
    document: list[Any] = Field(
        [], description="PDF or plain text as file parts.",
        json_schema_extra={"items": {"type": "string", "format": "binary"}},
    )  # fmt: skip
    video: list[Any] = Field(
        [], description="Videos as file parts; a Preview feature.",
        json_schema_extra={"items": {"type": "string", "format": "binary"}},
    )  # fmt: skip


class ImageWire(_Response):
    """A delivered picture; its dimensions and type are read from the bytes."""

    id: str = Field(description="Image id, a hash of the bytes.", examples=["img_" + "0" * 64])
    uri: str = Field(description="URL of the bytes.", examples=["/v1/images/img_" + "0" * 64])
    mime_type: str = Field(description="Media type, detected from the bytes.", examples=["image/jpeg"])
    width: int = Field(description="Width in pixels.", examples=[1024])
    height: int = Field(description="Height in pixels.", examples=[1024])
    bytes: int = Field(description="Length in bytes.", examples=[512000])
    image_size: str = Field(description="Image size that was paid for.", examples=["1K"])
    data: str | None = Field(
        None, description="The bytes as base64; only with delivery inline.", examples=["/9j/4AAQ…"]
    )


class UsageWire(_Response):
    """Tokens that this request cost, by kind; all zero if the cache served it."""

    input_tokens: int = Field(description="Input tokens.", examples=[24])
    output_tokens: int = Field(
        description="All output tokens: image_tokens, text_output and thinking.", examples=[1570]
    )
    text_input: int = Field(description="Tokens of prompt and documents.", examples=[24])
    image_input: int = Field(description="Tokens of reference images.", examples=[0])
    image_tokens: int = Field(description="Tokens of pictures, by the model card.", examples=[1120])
    text_output: int = Field(description="Tokens of text, or without a reported modality.", examples=[450])
    thinking: int = Field(description="Tokens of thinking.", examples=[0])
    search_queries: int = Field(description="Queries of searches, each of which is billed.", examples=[0])
    estimated: bool = Field(description="Whether Google reported no counts.", examples=[False])
    service_tier: str = Field(description="Service tier by Google's report, or empty.", examples=["standard"])
    cost_usd: float = Field(description="Cost in US dollars at list price.", examples=[0.06856])


class BudgetWire(_Response):
    """A budget window of the caller."""

    name: str = Field(
        description="Policy name, as in the RateLimit headers.", examples=["tenant-day-image_tokens"]
    )
    scope: str = Field(description="Scope of the budget: tenant, project, key or user.", examples=["tenant"])
    unit: str = Field(description=f"Unit of the budget: {', '.join(UNITS)}.", examples=["image_tokens"])
    window: str = Field(
        description="minute, hour, day, week or month in the tenant's time zone; lifetime if prepaid.",
        examples=["day"],
    )
    mode: str = Field(
        description="enforce, or shadow: usage is counted but never refused.", examples=["enforce"]
    )
    limit: Amount = Field(
        description="Current limit including credit, in the unit (US dollars for usd).", examples=[112000]
    )
    credit: Amount = Field(description="Part of the limit that was added as credit.", examples=[0])
    settled: Amount = Field(description="Amount that has been charged.", examples=[1120])
    held: Amount = Field(
        description="Amount reserved by running requests, at the most that they can cost.", examples=[0]
    )
    unresolved: Amount = Field(
        description="Amount set aside, beyond what was charged, for calls whose outcome is unknown.",
        examples=[0],
    )
    remaining: Amount = Field(description="Amount that remains, never below zero.", examples=[110880])
    resets_at: datetime | None = Field(
        description="End of the window; null for a lifetime budget.", examples=["2026-11-23T00:00:00Z"]
    )


class RateWire(_Response):
    """A request rate, or a cap on concurrent model calls."""

    name: str = Field(description="Policy name, as in the RateLimit headers.", examples=["tenant-requests"])
    scope: str = Field(description="Scope of the limit: tenant, key or user.", examples=["tenant"])
    kind: str = Field(
        description="requests (per minute) or concurrent (model calls at once).", examples=["requests"]
    )
    limit: int = Field(description="Requests per minute, or concurrent calls.", examples=[600])
    burst: int | None = Field(
        description="Requests that may arrive at once after a pause; null for concurrent.", examples=[600]
    )
    remaining: int = Field(description="Requests that would be admitted now.", examples=[599])


class CacheWire(_Response):
    """What the cache did for this request."""

    status: Literal["hit", "miss", "coalesced", "bypass"] = Field(
        description="Cache status of this request.", examples=["miss"]
    )
    age_s: int = Field(description="Age of the result in seconds.", examples=[0])
    key: str = Field(description="Fingerprint of the request, the cache key.", examples=["0" * 64])


class WarningWire(_Response):
    """A note on a successful response."""

    code: str = Field(description="Machine-readable code.", examples=["normalised_image_size"])
    detail: str = Field(
        description="Human-readable explanation.",
        examples=["image_size was read as 2K, which is the model's spelling."],
    )


class EffectiveWire(_Response):
    """Parameter values that were used."""

    model: str = Field(description="Model id.", examples=["gemini-3.1-flash-image"])
    aspect_ratio: str | None = Field(description="Aspect ratio; null: not chosen.", examples=["16:9"])
    image_size: str = Field(description="Image size.", examples=["1K"])
    n: int = Field(description="Number of pictures.", examples=[1])
    response_modalities: list[str] = Field(description="Kinds of output.", examples=[["IMAGE"]])
    output_mime_type: str | None = Field(description="Media type; null: not chosen.", examples=[None])
    output_compression_quality: int | None = Field(
        description="JPEG quality; null: not chosen.", examples=[None]
    )
    temperature: float | None = Field(
        description="Sampling temperature; null: the model has none.", examples=[1.0]
    )
    top_p: float | None = Field(description="Nucleus sampling; null: the model has none.", examples=[0.95])
    seeds: list[int | None] = Field(description="Seed of each model call, or null.", examples=[[None]])
    max_output_tokens: int = Field(description="Output tokens per model call.", examples=[32768])
    thinking_level: str = Field(description="Thinking level.", examples=["minimal"])
    variant: int = Field(description="Variant of the request.", examples=[0])
    continue_from: str | None = Field(description="Id of the continued generation.", examples=[None])
    grounding: GroundingWire = Field(description="Searches that the model might run.")


class SearchSourceWire(_Response):
    """A page that a search led to."""

    title: str = Field(description="Title of the page.", examples=["Lighthouse - Wikipedia"])
    uri: str = Field(description="Address of the page.", examples=["https://example.com/lighthouse"])
    image_uri: str | None = Field(
        description="Address of a picture on the page; null unless it was an image search.", examples=[None]
    )


class SearchResultsWire(_Response):
    """What the searches of one model call came to. Google's terms oblige you to show it with the picture."""

    queries: list[str] = Field(description="Queries, each of which is billed.", examples=[["lighthouse"]])
    search_entry_point: str = Field(
        description="HTML with Google's search suggestions, to be shown unchanged.", examples=["<div></div>"]
    )
    sources: list[SearchSourceWire] = Field(description="Pages that the picture is based on.")


class GenerateResponse(_Response):
    """A finished generation."""

    id: str = Field(description="Generation id.", examples=["gen_0123456789abcdef01234567"])
    model: str = Field(description="Model id.", examples=["gemini-3.1-flash-image"])
    created_at: datetime = Field(description="Time of completion.", examples=["2026-11-22T12:00:00Z"])
    images: list[ImageWire] = Field(description="Pictures, in order.")
    text: str = Field(description="Text from the model, if any.", examples=[""])
    finish_reason: str = Field(description="Google's finish reason.", examples=["STOP"])
    grounding: list[SearchResultsWire] = Field(
        description="Results of the searches, for each model call that searched.", examples=[[]]
    )
    effective: EffectiveWire = Field(description="Parameter values that were used.")
    usage: UsageWire = Field(description="What this request cost.")
    budgets: list[BudgetWire] = Field(description="The caller's budget windows after this request.")
    cache: CacheWire = Field(description="What the cache did for this request.")
    warnings: list[WarningWire] = Field(description="Notes on the response.", examples=[[]])


class ViolationFound(_Response):
    """A violation found in the request."""

    pointer: str = Field(description="JSON pointer into the request.", examples=["/aspect_ratio"])
    code: str = Field(description="Machine-readable code.", examples=["unsupported_aspect_ratio"])
    detail: str = Field(description="Human-readable explanation.", examples=["The model has no ratio 7:3."])
    allowed: list[str | int | float] | None = Field(None, description="Accepted values.", examples=[["1:1"]])


class WorstWire(_Response):
    """The most that a request can cost in each unit, under the tightest bound that it may be sent with."""

    image_tokens: int = Field(description="Image tokens.", examples=[1680])
    total_tokens: int = Field(description="Input and output tokens.", examples=[1741])
    images: int = Field(description="Images.", examples=[2])
    output_tokens: int = Field(description="All output tokens.", examples=[1720])
    cost_usd: float = Field(description="US dollars at list price.", examples=[0.1009])


class EstimateWire(_Response):
    """Tokens that a request is expected to use, for all its pictures."""

    text_input: int = Field(description="Tokens of prompt and system instruction.", examples=[7])
    image_input: int = Field(description="Tokens of reference images.", examples=[0])
    document_input: int = Field(description="Tokens of documents, by their length.", examples=[0])
    video_input: int = Field(description="Tokens of videos, by their duration.", examples=[0])
    image_tokens: int = Field(description="Tokens of pictures, by the model card.", examples=[1120])
    text_output: int = Field(description="Allowance for text and thinking.", examples=[600])
    output_tokens: int = Field(
        description="All output tokens: image_tokens and text_output.", examples=[1720]
    )
    total_tokens: int = Field(description="Input and output tokens.", examples=[1727])
    search_queries: int = Field(
        description="Queries of searches that are reserved; more would be settled.", examples=[0]
    )
    service_tier: str = Field(
        description="Service tier whose price `cost_usd` has: the requested one. `worst` has the highest "
        "price that may be applied.",
        examples=["standard"],
    )
    cost_usd: float = Field(description="Cost in US dollars at list price.", examples=[0.069])


class RefusalWire(_Response):
    """The error that the request would be refused with now."""

    code: str = Field(description="Machine-readable code.", examples=["budget_exceeded"])
    detail: str = Field(
        description="Human-readable explanation.",
        examples=["This request needs up to 2,520 image tokens, …"],
    )
    retryable: bool = Field(description="Whether the same request can succeed later.", examples=[True])
    retry_after_s: int | None = Field(
        description="Seconds to wait; null if it does not help.", examples=[3600]
    )
    would_fit: WouldFitWire | None = Field(
        None, description="What would be admitted now instead; null for a rate."
    )


class EstimateResponse(_Response):
    """What a request would cost and whether it would be admitted now. Nothing was spent."""

    valid: bool = Field(description="Whether the request has no violations.", examples=[True])
    violations: list[ViolationFound] = Field(description="All violations.", examples=[[]])
    estimate: EstimateWire | None = Field(description="Expected tokens and cost; null if invalid.")
    worst: WorstWire | None = Field(
        None, description="The most that it can use and cost, which is reserved; null if invalid."
    )
    would_be_admitted: bool = Field(
        description="Whether it is valid, and cached or within every enforced limit.", examples=[True]
    )
    refused_by: list[str] = Field(description="Names of the policies that would refuse it.", examples=[[]])
    refusal: RefusalWire | None = Field(
        None, description="The error it would be refused with now; null if it would be admitted."
    )
    cached: bool = Field(description="Whether the cache would serve it at no cost.", examples=[False])
    cached_age_s: int | None = Field(description="Age of the cached result in seconds.", examples=[None])
    effective: EffectiveWire | None = Field(description="Parameter values that would be used.")
    budgets: list[BudgetWire] = Field(description="The caller's budget windows now.")
    warnings: list[WarningWire] = Field(description="Notes on the response.", examples=[[]])


class EndUserWire(_Response):
    """An end user, by its id."""

    id: str = Field(description="Id of the end user, as in reports.", examples=["usr_Qm9va3Mgb3BlbiBh"])
    spent: UseWire = Field(description="Usage of this end user on these days, with all keys of the tenant.")


class UsageResponse(_Response):
    """The caller's budget windows now, and the usage of its key."""

    tenant: str = Field(description="Id of the caller's tenant.", examples=["demo"])
    project: str | None = Field(description="Project of the caller's key, if any.", examples=["web"])
    key: str = Field(description="Id of the caller's key.", examples=["k1"])
    user: EndUserWire | None = Field(
        description="The end user that `X-Flashgate-User` names, and its usage of all keys; null without it."
    )
    budgets: list[BudgetWire] = Field(description="Budget windows that apply to this key.")
    rates: list[RateWire] = Field(description="Rates and caps that apply to this key.")
    since: date = Field(description="First day of the report, UTC.", examples=["2026-11-01"])
    until: date = Field(description="Last day of the report, UTC.", examples=["2026-11-22"])
    spent: UseWire = Field(description="Usage of this key on these days.")
