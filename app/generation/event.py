"""The facts about a request that its log line shows, noted where the request path learns them.

A paid picture must not be lost because something about it cannot be noted, so none of this raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from app.domain.errors import BudgetExceeded
from app.domain.estimate import price_nano_usd
from app.resilience.best_effort import best_effort
from app.resilience.wide_event import note

if TYPE_CHECKING:
    from app.domain.budget import WindowState
    from app.domain.card import Card
    from app.domain.errors import GatewayError
    from app.domain.generation import Usage
    from app.generation.job import Job
    from app.generation.order import GenerationResult
    from app.generation.progress import Progress

_OF_FAILURES: Final = "billed", "upstream_status", "reason", "support_code", "retry_after_s"


@best_effort("event")
def note_job(job: Job) -> None:
    """Note what is requested, as it was understood."""
    note(
        model=job.card.id,
        image_size=job.request.image_size or job.card.image_size_default,
        images=job.request.n,
        project=job.caller.key.project,
        user=None if job.caller.user is None else job.caller.user.id,
    )


@best_effort("event")
def note_progress(progress: Progress) -> None:
    """Note the milliseconds that each stage took."""
    note(**{f"{stage}_ms": round(spent, 1) for stage, spent in progress.timings_ms.items()})


@best_effort("event")
def note_result(result: GenerationResult) -> None:
    """Note the generation, where it came from, and what this request was billed for it."""
    note(
        generation_id=result.generation.id,
        cache=result.cache_status,
        back_end=result.generation.back_end,
        images=len(result.pictures),
        finish_reason=result.generation.finish_reason,
    )
    _note_usage(result.cost, result.card)


@best_effort("event")
def note_failure(error: GatewayError, card: Card) -> None:
    """Note what the upstream said of a failure, and what it cost."""
    known: dict[str, Any] = {name: getattr(error, name, None) for name in _OF_FAILURES}
    note(**known)
    if isinstance(error, BudgetExceeded):
        note(refused_by=[_name_window(window) for window in error.refused_by])
    if error.usage is not None:
        _note_usage(error.usage, card)


def _name_window(window: WindowState) -> str:
    budget = window.budget
    return f"{budget.scope}:{budget.unit}/{budget.window}"


def _note_usage(usage: Usage, card: Card) -> None:
    note(
        image_tokens=usage.image_output,
        output_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        usd=price_nano_usd(card, usage) / 1e9,
    )
