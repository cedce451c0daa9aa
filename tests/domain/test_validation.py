"""Every rule of the card, once with what it accepts and once with what it refuses."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.domain import rules
from app.domain.estimate import estimate
from app.domain.fingerprint import compute_fingerprint
from app.domain.policy import Policy, RequestConfig
from app.domain.request import GenerationRequest, Input, derive_seeds
from app.domain.tenancy import Caller, Key, Tenant
from app.domain.validation import RULES, find_notices, normalize_request, validate
from tests.domain.validation_cases import (
    BAD,
    BUCKETS,
    CARD,
    CATALOGUE,
    GOOD,
    PRO,
    Bad,
    Good,
    bytes_input,
    document,
    everything_wrong,
    image,
    request,
    stored,
    video,
)

if TYPE_CHECKING:
    from types import FrameType

RULE_NAMES = {rule.__name__.removeprefix("check_") for rule in RULES}
INSPECTION_CODES = {
    *(f"{fault}_{kind}" for fault in ("truncated", "unreadable") for kind in ("image", "document", "video")),
    "encrypted_document",
    "empty_file",
}


@pytest.mark.parametrize("case", GOOD, ids=lambda case: f"{case.rule}-{GOOD.index(case)}")
def test_what_the_card_allows_passes_every_rule(case: Good) -> None:
    assert validate(case.request, case.card, case.policy) == ()


@pytest.mark.parametrize("case", BAD, ids=lambda case: f"{case.code}-{BAD.index(case)}")
def test_what_the_card_forbids_is_refused_once_with_its_place_and_a_sentence(case: Bad) -> None:
    found = validate(case.request, case.card, case.policy)
    assert [(item.code, item.pointer) for item in found] == [(case.code, case.pointer)]
    assert re.fullmatch(r"[A-Z0-9].{8,160}\.", found[0].detail), found[0].detail


def test_every_rule_has_an_accepting_and_a_refusing_case() -> None:
    assert {case.rule for case in GOOD} == RULE_NAMES
    assert {case.rule for case in BAD} == RULE_NAMES


def _codes(module: object) -> set[str]:
    """Every literal that a module passes as a violation's code; formatted ones with each kind put in."""
    found: set[str] = set()
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    for node in ast.walk(tree):
        if not (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Violation"
        ):
            continue
        code = node.args[1]
        choices = [code.body, code.orelse] if isinstance(code, ast.IfExp) else [code]
        for choice in choices:
            if isinstance(choice, ast.Constant):
                found.add(str(choice.value))
            elif isinstance(choice, ast.JoinedStr):
                found.add(ast.unparse(choice).strip("f'"))
    return found


def test_every_code_in_the_rules_has_a_refusing_case() -> None:
    written = _codes(rules)
    covered = {case.code for case in BAD} - INSPECTION_CODES
    templates = {code for code in written if "{" in code}
    assert len(templates) == 5
    patterns = [re.sub(r"\\\{.*?\\\}", "[a-z_]+", re.escape(code)) for code in written]
    assert [code for code in covered if not any(re.fullmatch(p, code) for p in patterns)] == []
    assert [p for p in patterns if not any(re.fullmatch(p, code) for code in covered)] == []


@pytest.mark.parametrize("prompt", ["A fox", " " * 300_000, "\u200b" * 100_000, "fox " * 90_000])
def test_a_request_without_files_is_validated_in_a_few_hundred_steps(prompt: str) -> None:
    steps = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal steps
        steps += event in {"call", "c_call"}

    asked = request(prompt=prompt, image_size="2k", aspect_ratio="16:9", temperature=0.5)
    sys.setprofile(count)
    try:
        found = validate(asked, CARD, Policy())
    finally:
        sys.setprofile(None)
    assert [item.code for item in found] == ([] if "f" in prompt else ["empty_prompt"])
    assert steps < 250


def test_all_faults_are_named_at_once() -> None:
    found = validate(everything_wrong(), CARD, Policy())
    assert {item.pointer for item in found} == {
        "/prompt",
        "/aspect_ratio",
        "/image_size",
        "/n",
        "/candidate_count",
        "/top_k",
        "/temperature",
        "/top_p",
        "/seed",
        "/max_output_tokens",
        "/thinking_level",
        "/response_modalities",
        "/output_mime_type",
        "/images/0",
    }


def test_each_of_several_bad_images_is_named() -> None:
    pictures = tuple(
        bytes_input(pointer=f"/images/{i}", mime_type="image/gif" if i % 2 else "image/png") for i in range(6)
    )
    found = validate(request(images=pictures), CARD, Policy())
    assert [item.pointer for item in found] == ["/images/1", "/images/3", "/images/5"]


@pytest.mark.parametrize("claim", ["image/webp", "image/x-unheard-of", "video/mp4", "text/plain"])
def test_a_wrong_claim_is_corrected_with_a_notice_that_names_both_types(claim: str) -> None:
    asked = image(declared_mime_type=claim)
    used = normalize_request(asked, CARD)
    (found,) = find_notices(asked, used, CARD)
    assert (found.code, used.images[0].mime_type) == ("corrected_mime_type", "image/png")
    assert claim in found.detail
    assert "image/png" in found.detail


@pytest.mark.parametrize("claim", ["text/csv", "application/json", "application/pdf", "text/markdown;q=1"])
def test_every_kind_of_text_is_sent_as_plain_text_with_a_notice(claim: str) -> None:
    asked = document(declared_mime_type=claim)
    assert [each.code for each in find_notices(asked, normalize_request(asked, CARD), CARD)] == [
        "corrected_mime_type"
    ]


@pytest.mark.parametrize(
    "claim", ["image/png", "IMAGE/X-PNG", "png", "image/*", "application/octet-stream", None]
)
def test_a_claim_that_is_right_or_says_nothing_needs_no_notice(claim: str | None) -> None:
    asked = image(declared_mime_type=claim)
    assert find_notices(asked, normalize_request(asked, CARD), CARD) == ()


def test_a_claim_that_is_no_media_type_is_not_repeated() -> None:
    asked = image(declared_mime_type="<script>alert(1)</script>")
    (found,) = find_notices(asked, normalize_request(asked, CARD), CARD)
    assert "script" not in found.detail


def test_an_animation_is_accepted_with_a_notice() -> None:
    asked = image(frames=12)
    (found,) = find_notices(asked, normalize_request(asked, CARD), CARD)
    assert found.code == "animated_image"
    assert "12 frames" in found.detail


def test_a_fault_of_another_kind_is_no_fault_of_what_is_refused_for_its_type() -> None:
    text = image(mime_type="text/plain", faults=(("unreadable_document", "It is UTF-16."),))
    assert [each.code for each in validate(text, CARD, Policy())] == ["unsupported_image_type"]


def test_what_is_allowed_is_listed_for_choices() -> None:
    (ratio,) = validate(request(aspect_ratio="7:3"), CARD, Policy())
    assert ratio.allowed == CARD.aspect_ratios
    (size,) = validate(request(image_size="4K"), CARD, Policy(max_image_size="1K"))
    assert size.allowed == ("512", "1K")
    (preview,) = validate(request(image_size="4K"), CARD, Policy(preview=frozenset()))
    assert preview.allowed == ("512", "1K", "2K")


def test_a_rule_about_one_model_does_not_bind_another() -> None:
    for card in CATALOGUE:
        for ratio in card.aspect_ratios:
            for size in card.image_sizes:
                asked = replace(request(aspect_ratio=ratio, image_size=size), model=card.id)
                assert validate(asked, card, Policy()) == ()


def caller_of(tenant: dict[str, Any], key: dict[str, Any]) -> Caller:
    """A caller whose tenant and key have these rights."""
    bare = Key("k1", "0" * 64, frozenset({"images"}), **key)
    return Caller(Tenant("search", ZoneInfo("UTC"), budgets=(), keys=(bare,), **tenant), bare)


def test_the_policy_of_a_caller_keeps_the_deployments_limits() -> None:
    deployment = Policy(
        capabilities=frozenset({"x"}),
        request=RequestConfig(
            gcs_buckets=frozenset({"inputs"}), input_pixels_max=7, images_per_request_max=2
        ),
    )
    rights: dict[str, Any] = {
        "models": frozenset({CARD.id}), "max_image_size": "1K", "preview": frozenset({"video"}),
    }  # fmt: skip
    assert deployment.restrict_to(caller_of(rights, {})) == replace(deployment, **rights)
    assert deployment.restrict_to(caller_of({}, rights)) == replace(deployment, **rights)


@pytest.mark.parametrize(
    ("tenant", "key", "most"),
    [("4K", "512", "512"), ("512", "4K", "512"), (None, "2K", "2K"), ("1K", None, "1K"), (None, None, None)],
)
def test_the_smaller_cap_of_tenant_and_key_counts(
    tenant: str | None, key: str | None, most: str | None
) -> None:
    assert caller_of({"max_image_size": tenant}, {"max_image_size": key}).max_image_size == most


def test_a_key_previews_no_more_than_its_tenant() -> None:
    both, video = frozenset({"4K", "video"}), frozenset({"video"})
    assert caller_of({"preview": video}, {"preview": both}).preview == video
    assert caller_of({"preview": both}, {"preview": frozenset()}).preview == frozenset()
    assert caller_of({"preview": both}, {}).preview == both


def test_a_cap_binds_on_a_card_that_does_not_have_its_size() -> None:
    (found,) = validate(request(image_size="1K"), PRO, Policy(max_image_size="512"))
    assert (found.code, found.allowed) == ("image_size_not_allowed", ())
    assert validate(request(image_size="1K"), PRO, Policy(max_image_size="1K")) == ()


@pytest.mark.parametrize(
    ("spelling", "literal"),
    [("0.5k", "512"), ("512PX", "512"), ("1k", "1K"), ("2048", "2K"), ("4096px", "4K"), (None, "1K")],
)
def test_a_spelling_becomes_the_cards_literal(spelling: str | None, literal: str) -> None:
    assert normalize_request(request(image_size=spelling), CARD).image_size == literal


def test_a_changed_spelling_is_reported_and_an_exact_one_is_not() -> None:
    asked = request(image_size="2k", thinking_level="HIGH")
    found = find_notices(asked, normalize_request(asked, CARD), CARD)
    assert [item.code for item in found] == ["normalised_image_size", "normalised_thinking_level"]
    exact = request(image_size="2K", thinking_level="high")
    assert find_notices(exact, normalize_request(exact, CARD), CARD) == ()
    silent = request()
    assert find_notices(silent, normalize_request(silent, CARD), CARD) == ()


def test_the_claim_about_a_file_elsewhere_is_sent_in_its_usual_spelling_and_reported() -> None:
    inputs = (stored(declared_mime_type="IMAGE/JPG"), stored(), bytes_input(declared_mime_type="IMAGE/PNG"))
    asked = request(images=inputs)
    used = normalize_request(asked, CARD)
    assert [item.declared_mime_type for item in used.images] == ["image/jpeg", "image/png", "IMAGE/PNG"]
    assert [item.code for item in find_notices(asked, used, CARD)] == ["normalised_mime_type"]


def test_preview_features_are_reported() -> None:
    asked = replace(video(), image_size="4K")
    found = find_notices(asked, normalize_request(asked, CARD), CARD)
    assert [item.code for item in found] == ["preview_feature", "preview_feature"]


@pytest.mark.parametrize("name", ["gemini-3.1-flash-image-preview", "models/gemini-3.1-flash-image-preview"])
def test_a_deprecated_name_is_reported(name: str) -> None:
    asked = replace(request(), model=name)
    found = find_notices(asked, normalize_request(asked, CARD), CARD)
    assert [item.code for item in found] == ["model_deprecated"]


@pytest.mark.parametrize("name", ["gemini-3.1-flash-image", "nano-banana-2", "google/nano-banana-2"])
def test_a_current_name_is_not_reported(name: str) -> None:
    asked = replace(request(), model=name)
    assert find_notices(asked, normalize_request(asked, CARD), CARD) == ()


def test_a_model_at_its_end_is_reported() -> None:
    ending = CARD.model_copy(update={"lifecycle": CARD.lifecycle.model_copy(update={"stage": "deprecated"})})
    (found,) = find_notices(request(), normalize_request(request(), ending), ending)
    assert found.code == "model_deprecated"
    assert "gemini-nano-banana-2.1" in found.detail


def test_normalising_changes_spellings_only_and_only_once() -> None:
    asked = replace(
        request(image_size="2k", thinking_level="HIGH", response_modalities=("IMAGE", "TEXT")),
        model="nano-banana-2",
    )
    used = normalize_request(asked, CARD)
    assert used == replace(
        asked, model=CARD.id, image_size="2K", thinking_level="high", response_modalities=("TEXT", "IMAGE")
    )
    assert normalize_request(used, CARD) == used
    assert validate(used, CARD, Policy()) == ()


def test_no_rule_is_longer_than_a_page_and_none_is_forgotten() -> None:
    source = Path(inspect.getfile(rules)).read_text()
    public = {
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
        and node.args.args
        and node.args.args[0].arg == "case"
        and not node.name.startswith("_")
    }
    assert public == {rule.__name__ for rule in rules.RULES}


_words = st.text(max_size=30) | st.text(st.characters(), max_size=10)
_inputs = st.builds(
    Input,
    kind=st.sampled_from(("image", "document", "video")),
    pointer=st.just("/images/0"),
    data=st.none() | st.binary(max_size=20),
    uri=st.none() | _words | _words.map("gs://".__add__),
    declared_mime_type=st.none() | _words,
    mime_type=st.none() | st.sampled_from(("image/png", "text/plain", "application/pdf")) | _words,
    width=st.none() | st.integers(),
    height=st.none() | st.integers(),
    pages=st.none() | st.integers(0),
)
_files = st.lists(_inputs, max_size=3).map(tuple)
_numbers = st.none() | st.integers() | st.floats()


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        GenerationRequest,
        model=_words,
        prompt=_words | st.text(st.characters(categories=["Cs"]), max_size=3),
        images=_files,
        documents=_files,
        videos=_files,
        aspect_ratio=st.none() | _words,
        image_size=st.none() | _words,
        n=st.integers(),
        response_modalities=st.lists(_words, max_size=3).map(tuple),
        temperature=_numbers,
        top_p=_numbers,
        top_k=st.none() | st.integers(),
        seed=st.none() | st.integers(),
        max_output_tokens=st.none() | st.integers(),
        thinking_level=st.none() | _words,
        labels=st.lists(st.tuples(_words, _words), max_size=10).map(tuple),
    )
)
def test_validation_answers_anything_with_sendable_words(asked: GenerationRequest) -> None:
    for violation in validate(asked, CARD, BUCKETS):
        f"{violation.pointer}{violation.code}{violation.detail}".encode()
        assert len(violation.detail) < 200


def _near(*valid: object) -> st.SearchStrategy[object]:
    """Mostly something valid, sometimes noise of the same kind."""
    noise: list[st.SearchStrategy[object]] = (
        [_words] if isinstance(valid[0], str) else [st.integers(-5, 3000)]
    )
    return st.sampled_from(valid) | st.none() | st.one_of(noise)


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        GenerationRequest,
        model=st.just(CARD.id),
        prompt=_words.map("a fox ".__add__),
        images=st.lists(st.sampled_from([bytes_input(), stored()]), max_size=15).map(tuple),
        documents=st.lists(st.just(bytes_input("document")), max_size=2).map(tuple),
        aspect_ratio=_near(*CARD.aspect_ratios),
        image_size=_near("512", "0.5k", "1K", "2k", "4096px"),
        n=st.integers(1, 9),
        response_modalities=st.sampled_from([("IMAGE",), ("TEXT", "IMAGE"), ("IMAGE", "TEXT")]),
        temperature=st.none() | st.floats(0, 2.1),
        seed=st.none() | st.integers(-(2**31), 2**31),
        max_output_tokens=_near(2520, 32_768),
        thinking_level=_near("minimal", "HIGH"),
        labels=st.sampled_from([(), (("team", "search"),), (("", ""),)]),
    )
)
def test_what_is_valid_can_be_normalised_priced_named_and_is_valid_again(asked: GenerationRequest) -> None:
    assume(not validate(asked, CARD, BUCKETS))
    used = normalize_request(asked, CARD)
    assert validate(used, CARD, BUCKETS) == ()
    assert normalize_request(used, CARD) == used
    assert estimate(used, CARD).image_output == asked.n * CARD.image_tokens(used.image_size or "")
    assert compute_fingerprint(used, CARD, "t") == compute_fingerprint(
        normalize_request(used, CARD), CARD, "t"
    )
    assert len(derive_seeds(used)) == asked.n
