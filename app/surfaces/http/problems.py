"""Schemas of problem documents in the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.failure import list_error_classes


class ViolationWire(BaseModel):
    """A violation found in the request."""

    pointer: str = Field(description="JSON pointer into the request.", examples=["/aspect_ratio"])
    code: str = Field(description="Machine-readable code.", examples=["unsupported_aspect_ratio"])
    detail: str = Field(description="Human-readable explanation.", examples=["The model has no ratio 7:3."])
    allowed: list[str | int | float] | None = Field(
        None, description="Accepted values.", examples=[["1:1", "16:9"]]
    )


class UpstreamWire(BaseModel):
    """What the upstream returned."""

    status: int | None = Field(None, description="HTTP status of the upstream.", examples=[503])
    reason: str | None = Field(
        None, description="Status or finish reason in the upstream's spelling.", examples=["UNAVAILABLE"]
    )
    support_code: str | None = Field(
        None, description="Google's support code for a refusal.", examples=["11030041"]
    )
    category: str | None = Field(
        None, description="Category of the blocked content.", examples=["prohibited"]
    )
    side: Literal["prompt", "picture"] | None = Field(
        None, description="Whether the prompt or the picture was blocked.", examples=["picture"]
    )
    billed: str | None = Field(
        None, description="Whether Google bills the call: no, maybe or yes.", examples=["no"]
    )


class SpentWire(BaseModel):
    """What the failed request cost."""

    input_tokens: int = Field(description="Input tokens.", examples=[24])
    output_tokens: int = Field(description="All output tokens, including image_tokens.", examples=[0])
    image_tokens: int = Field(description="Tokens of pictures, by the model card.", examples=[0])
    estimated: bool = Field(
        description="Whether the counts are estimates because Google reported none.", examples=[False]
    )
    cost_usd: float | None = Field(
        None, description="Cost in US dollars; only for a result that is no longer stored.", examples=[0.0672]
    )


class RefusingWire(BaseModel):
    """A budget window with too little left for the request."""

    name: str = Field(description="Policy name.", examples=["tenant-day-image_tokens"])
    unit: str = Field(description="Unit of the budget.", examples=["image_tokens"])
    asked: float = Field(description="The most that the request may use, in the unit.", examples=[2520])
    remaining: float = Field(description="Amount that remains, in the unit.", examples=[1200])
    limit: float = Field(description="Limit of the window, in the unit.", examples=[112000])
    resets_at: str | None = Field(
        description="End of the window; null if it never ends.", examples=["2026-11-23T00:00:00Z"]
    )


class WouldFitWire(BaseModel):
    """A smaller request that would be admitted now."""

    image_size: str | None = Field(
        description="Largest size for the same number of pictures; null if none fits.", examples=["1K"]
    )
    n: int = Field(description="Largest number of pictures of the same size; 0 if none fits.", examples=[0])


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(
        description="URI of the problem type.", examples=["urn:flashgate:problem:validation_failed"]
    )
    title: str = Field(
        description="Human-readable summary of the problem type.", examples=["The request is not valid"]
    )
    status: int = Field(description="HTTP status code.", examples=[422])
    detail: str = Field(
        description="Human-readable explanation of this occurrence.", examples=["2 violations were found."]
    )
    instance: str | None = Field(None, description="Path of the request.", examples=["/v1/images:generate"])
    code: str = Field(description="Machine-readable problem code.", examples=["validation_failed"])
    request_id: str = Field(description="Request id, as in X-Request-ID.", examples=["5f0c4f6e2c1b4a1d"])
    retryable: bool = Field(description="Whether the same request can succeed later.", examples=[False])
    violations: list[ViolationWire] | None = Field(None, description="All violations.")
    violated_policies: list[str] | None = Field(
        None,
        description="Policy names of the budgets or rates that refused the request.",
        examples=[["tenant-day-image_tokens"]],
    )
    refused_by: list[RefusingWire] | None = Field(
        None, description="The budget windows that refused the request."
    )
    would_fit: WouldFitWire | None = Field(None, description="What would be admitted now instead.")
    expected_usd: float | None = Field(
        None, description="What the request is expected to cost, in dollars.", examples=[0.069]
    )
    most_usd: float | None = Field(
        None, description="What the request can cost at most, in dollars.", examples=[0.1009]
    )
    retry_after_s: int | None = Field(
        None, description="Seconds to wait, as in Retry-After.", examples=[3600]
    )
    usage: SpentWire | None = Field(None, description="What the failed request cost.")
    upstream: UpstreamWire | None = Field(None, description="What the upstream returned.")


_HEADER = {"schema": {"type": "string"}}
RATE_LIMIT_HEADERS: dict[str, Any] = {
    "RateLimit-Policy": {"description": "Quota and window of each budget, tightest first.", **_HEADER},
    "RateLimit": {"description": "Remaining amount and reset time of each budget.", **_HEADER},
    "X-Request-ID": {"description": "Request id, as in logs.", **_HEADER},
    "Cache-Status": {"description": "What the cache did for this request (RFC 9211).", **_HEADER},
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}


def _describe_problems() -> dict[int | str, dict[str, Any]]:
    by_status: dict[int, list[str]] = {}
    for error in list_error_classes():
        codes = by_status.setdefault(error.status, [])
        if error.code not in codes:
            codes.append(error.code)
    schema = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {
            "description": " or ".join(f"`{code}`" for code in by_status[status]) + ".",
            "content": schema,
            **({"headers": _RETRY_AFTER} if status in {429, 503} else {}),
        }
        for status in sorted(by_status)
    }


PROBLEMS = _describe_problems()
