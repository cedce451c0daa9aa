"""How problems look in the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.domain.failure import list_error_classes


class ViolationWire(BaseModel):
    """One fault of a request."""

    pointer: str = Field(description="JSON pointer into the request.", examples=["/aspect_ratio"])
    code: str = Field(description="For programs.", examples=["unsupported_aspect_ratio"])
    detail: str = Field(description="For people.", examples=["The model has no ratio 7:3."])
    allowed: list[str | int | float] | None = Field(
        None, description="What is accepted.", examples=[["1:1", "16:9"]]
    )


class UpstreamWire(BaseModel):
    """What the upstream said."""

    status: int | None = Field(None, description="Its HTTP status.", examples=[503])
    reason: str | None = Field(None, description="Its own word.", examples=["UNAVAILABLE"])
    support_code: str | None = Field(None, description="Its number for a refusal.", examples=["11030041"])
    category: str | None = Field(
        None, description="The kind of fault that a refusal found.", examples=["prohibited"]
    )
    side: Literal["prompt", "picture"] | None = Field(
        None, description="What a refusal found fault with.", examples=["picture"]
    )
    billed: str | None = Field(None, description="no, maybe or yes.", examples=["no"])


class SpentWire(BaseModel):
    """What a failed request cost all the same."""

    input_tokens: int = Field(description="All input.", examples=[24])
    output_tokens: int = Field(description="All output.", examples=[0])
    image_output: int = Field(description="Pictures.", examples=[0])
    estimated: bool = Field(description="True where Google reported nothing.", examples=[False])
    cost_usd: float | None = Field(
        None, description="Dollars, of a result that is no longer kept.", examples=[0.0672]
    )


class RefusingWire(BaseModel):
    """A budget window that had too little left."""

    name: str = Field(description="The policy's name.", examples=["tenant-day-output_tokens"])
    unit: str = Field(description="What it counts; usd in dollars.", examples=["output_tokens"])
    asked: float = Field(description="What the request needs at most.", examples=[2520])
    remaining: float = Field(description="What is left.", examples=[1200])
    limit: float = Field(description="What the window holds.", examples=[112000])
    resets_at: str | None = Field(
        description="When it begins anew; null for never.", examples=["2026-11-23T00:00:00Z"]
    )


class WouldFitWire(BaseModel):
    """What would be admitted at this moment in place of what was refused."""

    image_size: str | None = Field(
        description="The largest size of as many pictures; null where none fits.", examples=["1K"]
    )
    n: int = Field(description="The most pictures of the same size; 0 where none fits.", examples=[0])


class Problem(BaseModel):
    """A failure (RFC 9457)."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(description="Names the kind.", examples=["urn:flashgate:problem:validation_failed"])
    title: str = Field(description="The kind, for people.", examples=["The request is not valid"])
    status: int = Field(description="HTTP status.", examples=[422])
    detail: str = Field(description="This very occurrence.", examples=["2 faults were found."])
    instance: str | None = Field(None, description="The path.", examples=["/v1/images:generate"])
    code: str = Field(description="The kind, for programs.", examples=["validation_failed"])
    request_id: str = Field(description="As in X-Request-ID.", examples=["5f0c4f6e2c1b4a1d"])
    retryable: bool = Field(description="Whether the same request can succeed later.", examples=[False])
    violations: list[ViolationWire] | None = Field(None, description="Every fault.")
    violated_policies: list[str] | None = Field(
        None,
        description="Names of the budgets or rates that refused.",
        examples=[["tenant-day-output_tokens"]],
    )
    refused_by: list[RefusingWire] | None = Field(None, description="The budgets that refused.")
    would_fit: WouldFitWire | None = Field(None, description="What would be admitted instead, right now.")
    retry_after_s: int | None = Field(None, description="As in Retry-After.", examples=[3600])
    usage: SpentWire | None = Field(None, description="What it cost all the same.")
    upstream: UpstreamWire | None = Field(None, description="What the upstream said.")


_HEADER = {"schema": {"type": "string"}}
RATE_LIMIT_HEADERS: dict[str, Any] = {
    "RateLimit-Policy": {"description": "The budgets: quota and window, tightest first.", **_HEADER},
    "RateLimit": {"description": "What is left of them, and when they reset.", **_HEADER},
    "X-Request-ID": {"description": "Names this request in logs.", **_HEADER},
    "Cache-Status": {"description": "How the cache took part (RFC 9211).", **_HEADER},
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
