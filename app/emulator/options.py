"""Options of an emulator as a whole; ``rehearsals`` and ``rules`` control single calls."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from app.emulator.bill import FREE_QUERIES
from app.emulator.latency import Latency
from app.emulator.rules import FaultRules


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """Constant for the emulator's life.

    Attributes:
        latency: How long generations take, beside what drawing costs.
        faults: Rules in force from the start.
        output_mime_type: What pictures are encoded as where the request does not say.
        compression_quality: JPEG quality (1-100) where the request does not say.
        painters: Threads that draw at the same time.
        body_bytes_max: Larger requests are refused. 100 MB is the Gemini API's limit since January 2026.
        hold_s_max: The longest that a held answer waits for its release, so that no test hangs.
        calls_remembered: How many distinct requests are counted one by one.
        free_queries: Queries of searches that the bill does not charge.
    """

    latency: Latency = field(default_factory=Latency)
    faults: FaultRules = field(default_factory=FaultRules)
    output_mime_type: str = "image/jpeg"
    compression_quality: int = 90
    painters: int = field(default_factory=lambda: max(2, os.cpu_count() or 2))
    body_bytes_max: int = 104_857_600
    hold_s_max: float = 60.0
    calls_remembered: int = 10_000
    free_queries: int = FREE_QUERIES
