"""Loads stored generations with their pictures, checked, as results."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from app.domain.attempt import Rejoined
from app.domain.generation import Generation, Usage
from app.domain.validation import normalize_request
from app.generation import booking
from app.generation.order import GenerationResult
from app.generation.ports import Hit, Replayed

if TYPE_CHECKING:
    from app.cards import Catalogue
    from app.domain.generation import Picture, PictureRecord
    from app.generation.job import Job
    from app.generation.ports import Results
    from app.generation.progress import Progress


class Recall:
    """Loads results that were paid for before."""

    def __init__(self, results: Results, catalogue: Catalogue) -> None:
        self._results = results
        self._catalogue = catalogue

    async def load(
        self, job: Job, progress: Progress, admission: Hit | Replayed | Rejoined
    ) -> GenerationResult | None:
        """Return the result that an admission refers to, or None if it must be generated again.

        Raises:
            ResultGone: It was paid under an idempotency key, and so is never generated again.
        """
        match admission:
            case Hit():
                return await self.load_hit(job, progress, admission)
            case Replayed():
                return await self._load_replayed(job, progress, admission)
            case Rejoined():
                return await self._load_rejoined(job, progress, admission)

    async def load_hit(self, job: Job, progress: Progress, hit: Hit) -> GenerationResult | None:
        """The kept result with its bytes, or None where an image is gone or damaged."""
        pictures = await self._load_pictures(job, hit.generation.pictures)
        interim = await self._load_pictures(job, hit.generation.interim)
        if pictures is None or interim is None:
            return None
        job = self._restore_model(job, hit.generation)
        coalesced = progress.following is not None and hit.generation.id == f"gen_{progress.following}"
        return GenerationResult(
            generation=hit.generation,
            request=job.request,
            card=job.card,
            pictures=pictures,
            cache_status="coalesced" if coalesced else "hit",
            age_s=hit.age_s,
            fingerprint=job.fingerprint,
            cost=Usage(),
            windows=hit.windows,
            notices=job.notices + hit.generation.notices,
            timings_ms=progress.timings_ms,
            interim=interim,
            rates=hit.rates,
        )

    def _restore_model(self, job: Job, generation: Generation) -> Job:
        """Return the job as it was served, before an alias of its model came or went."""
        card = self._catalogue.resolve(generation.model)
        if card is None or card is job.card:
            return job
        return replace(job, card=card, request=normalize_request(job.request, card), notices=())

    async def _load_replayed(self, job: Job, progress: Progress, replayed: Replayed) -> GenerationResult:
        """Load the result of the idempotency key's request."""
        generation = replayed.outcome
        if generation is None:
            generation = await self._load_generation(job, replayed.generation_id, replayed.created_ms)
        result = None
        if isinstance(generation, Generation):
            hit = Hit(generation, replayed.age_s, replayed.windows, replayed.rates)
            result = await self.load_hit(job, progress, hit)
        if result is None:
            raise booking.build_result_gone_error(replayed)
        return replace(result, replayed=True, cache_status="hit")

    async def _load_rejoined(
        self, job: Job, progress: Progress, rejoined: Rejoined
    ) -> GenerationResult | None:
        """Load the result of an earlier attempt at the same call, or None if it is no longer kept."""
        generation = await self._load_generation(job, rejoined.generation_id, rejoined.created_ms)
        if generation is None:
            return None
        hit = Hit(generation, rejoined.age_s, rejoined.windows, rejoined.rates)
        return await self.load_hit(job, progress, hit)

    async def _load_generation(self, job: Job, generation_id: str, created_ms: int) -> Generation | None:
        stored = await self._results.get_generation(job.tenant_id, generation_id)
        return replace(stored.generation, created_ms=created_ms) if stored else None

    async def _load_pictures(
        self, job: Job, records: tuple[PictureRecord, ...]
    ) -> tuple[Picture, ...] | None:
        """The pictures of a kept result, or None where one of them is gone or damaged."""
        loaded = [await self._results.get_picture(job.tenant_id, record.id) for record in records]
        pictures = tuple(picture for picture in loaded if picture is not None)
        return pictures if len(pictures) == len(records) else None
