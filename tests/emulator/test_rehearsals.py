"""What a prompt can ask the emulator to rehearse, and what those who test against it can count and hold."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from PIL import UnidentifiedImageError

from app.emulator.faults import FAULTS
from app.emulator.rehearsals import find_directives, strip_directives
from tests.emulator.conftest import GENERATE, STREAM, VERTEX, pictures, small

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DEADLINE_S = 20

# Where a rehearsal ends with an HTTP error: its status, and Google's word for it.
ERRORS = {
    "invalid": (400, "INVALID_ARGUMENT"),
    "bad-key": (400, "INVALID_ARGUMENT"),
    "precondition": (400, "FAILED_PRECONDITION"),
    "unauthenticated": (401, "UNAUTHENTICATED"),
    "permission-denied": (403, "PERMISSION_DENIED"),
    "not-found": (404, "NOT_FOUND"),
    "too-large": (413, None),
    "quota": (429, "RESOURCE_EXHAUSTED"),
    "quota-day": (429, "RESOURCE_EXHAUSTED"),
    "quota-zero": (429, "RESOURCE_EXHAUSTED"),
    "spending-cap": (429, "RESOURCE_EXHAUSTED"),
    "spending-cap-account": (429, "RESOURCE_EXHAUSTED"),
    "credits-depleted": (429, "RESOURCE_EXHAUSTED"),
    "exhausted": (429, "RESOURCE_EXHAUSTED"),
    "timeout": (408, None),
    "cancelled": (499, "CANCELLED"),
    "internal": (500, "INTERNAL"),
    "bad-gateway": (502, None),
    "unavailable": (503, "UNAVAILABLE"),
    "deadline": (504, "DEADLINE_EXCEEDED"),
    "overloaded-proxy": (529, None),
}
# Where the answer has no picture: its finishReason, and whether it explains itself.
WITHOUT_PICTURE = {
    "text-only": ("STOP", False),
    "image-safety": ("IMAGE_SAFETY", True),
    "image-prohibited": ("IMAGE_PROHIBITED_CONTENT", True),
    "image-recitation": ("IMAGE_RECITATION", True),
    "image-other": ("IMAGE_OTHER", True),
    "no-image": ("NO_IMAGE", False),
    "safety": ("SAFETY", False),
    "other": ("OTHER", False),
    "max-tokens": ("MAX_TOKENS", False),
    "unknown-no-image": ("IMAGE_WITHHELD_2027", False),
}
SHAPES = {
    "blocked-prompt",
    "blocked-safety",
    "unknown-finish-reason",
    "no-usage",
    "two-images",
    "greedy",
    "over",
    "thought-only-image",
    "wrong-size",
    "model-deprecated",
    "escaped-padding",
    "url-safe",
    "pretty",
    "thoughts",
    "cached",
    "png",
    "webp",
    "mislabelled",
    "damaged",
}
WIRE = {"dropped", "reset", "truncated", "broken-json", "trickled", "stream-error", "stream-cut"}
WITH_ARGUMENT = {"answered-by", "finish", "block", "support-code", "searches", "huge", "slow", "hold"}


def prompting(name: str) -> dict[str, Any]:
    return small(f"A fox [[emulate:{name}]]")


async def answered(client: httpx2.AsyncClient, name: str, path: str = GENERATE) -> dict[str, Any]:
    response = await client.post(path, json=prompting(name))
    assert response.status_code == 200, response.text
    return dict(response.json())


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():  # noqa: ASYNC110 - the condition is in another process
            await asyncio.sleep(0.01)


def test_every_rehearsal_is_tested_here() -> None:
    assert set(FAULTS) == {*ERRORS, *WITHOUT_PICTURE, *SHAPES, *WIRE, *WITH_ARGUMENT}


def test_directives_are_found_and_not_drawn() -> None:
    prompt = "A [[emulate:quota:2]] fox [[emulate:pretty]]"
    assert find_directives(prompt) == [("quota", "2"), ("pretty", "")]
    assert strip_directives(prompt) == "A  fox"


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_has_googles_status_and_word(client: httpx2.AsyncClient, name: str) -> None:
    status, word = ERRORS[name]
    response = await client.post(GENERATE, json=prompting(name))
    assert response.status_code == status
    if word is None:
        assert response.headers["content-type"].startswith("text/html")
    else:
        assert response.json()["error"] | {"code": status, "status": word} == response.json()["error"]


async def test_a_used_up_quota_says_which_and_when_to_come_back(client: httpx2.AsyncClient) -> None:
    error = (await client.post(GENERATE, json=prompting("quota"))).json()["error"]
    details = {detail["@type"].rpartition(".")[2]: detail for detail in error["details"]}
    assert details["RetryInfo"]["retryDelay"] == "34.07s"
    assert "PerMinute" in details["QuotaFailure"]["violations"][0]["quotaId"]
    day = (await client.post(GENERATE, json=prompting("quota-day"))).json()["error"]["details"][0]
    assert "PerDay" in day["violations"][0]["quotaId"]


async def test_a_fault_with_a_number_hits_so_many_calls_and_no_more(client: httpx2.AsyncClient) -> None:
    body = small("A fox, thrice [[emulate:unavailable:2]]")
    statuses = [(await client.post(GENERATE, json=body)).status_code for _ in range(4)]
    assert statuses == [503, 503, 200, 200]


@pytest.mark.parametrize("path", [GENERATE, VERTEX])
@pytest.mark.parametrize("name", WITHOUT_PICTURE)
async def test_an_answer_without_a_picture_says_why(client: httpx2.AsyncClient, name: str, path: str) -> None:
    reason, explained = WITHOUT_PICTURE[name]
    answer = await answered(client, name, path)
    candidate, usage = answer["candidates"][0], answer["usageMetadata"]
    assert (candidate["finishReason"], "finishMessage" in candidate) == (reason, explained)
    assert not pictures(answer)
    assert "candidatesTokensDetails" not in usage
    assert ("candidatesTokenCount" in usage) == (name == "text-only")
    assert ("parts" in candidate["content"]) == (name == "text-only")
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage.get("candidatesTokenCount", 0)


async def test_a_prohibited_picture_carries_the_support_code(client: httpx2.AsyncClient) -> None:
    message = (await answered(client, "image-prohibited"))["candidates"][0]["finishMessage"]
    assert message.endswith("Support code: 11030041.")


@pytest.mark.parametrize(
    ("name", "reason"), [("blocked-prompt", "PROHIBITED_CONTENT"), ("blocked-safety", "SAFETY")]
)
async def test_a_blocked_prompt_has_no_candidates_and_costs_its_input(
    client: httpx2.AsyncClient, name: str, reason: str
) -> None:
    answer = await answered(client, name)
    assert "candidates" not in answer
    assert answer["promptFeedback"] == {"blockReason": reason}
    assert answer["usageMetadata"]["totalTokenCount"] == answer["usageMetadata"]["promptTokenCount"]


async def test_a_new_finish_reason_comes_with_its_picture(client: httpx2.AsyncClient) -> None:
    answer = await answered(client, "unknown-finish-reason")
    assert answer["candidates"][0]["finishReason"] == "IMAGE_FINISHED_2027"
    assert len(pictures(answer)) == 1


async def test_usage_may_be_missing(client: httpx2.AsyncClient) -> None:
    answer = await answered(client, "no-usage")
    assert "usageMetadata" not in answer
    assert len(pictures(answer)) == 1


async def test_two_pictures_differ_and_are_both_charged(client: httpx2.AsyncClient) -> None:
    answer = await answered(client, "two-images")
    first, second = pictures(answer)
    assert first.tobytes() != second.tobytes()
    assert answer["usageMetadata"]["candidatesTokensDetails"][0]["tokenCount"] == 2 * 747


@pytest.mark.parametrize(
    ("name", "bound", "pictures_of", "output"),
    [("two-images", 1494, 2, 1494), ("greedy", 2000, 2, 2000), ("over", 2000, 3, 3 * 747 + 2000)],
)
async def test_an_answer_keeps_to_its_bound_uses_it_up_or_passes_it(
    client: httpx2.AsyncClient, name: str, bound: int, pictures_of: int, output: int
) -> None:
    body = prompting(name)
    body["generationConfig"]["maxOutputTokens"] = bound
    answer = (await client.post(GENERATE, json=body)).json()
    assert answer["candidates"][0]["finishReason"] == "STOP"
    assert len(pictures(answer)) == pictures_of
    assert answer["usageMetadata"]["candidatesTokenCount"] == output
    assert answer["usageMetadata"]["candidatesTokensDetails"][0]["tokenCount"] == pictures_of * 747


async def test_an_answer_that_does_not_fit_its_bound_is_cut_off_and_charged(
    client: httpx2.AsyncClient,
) -> None:
    body = prompting("two-images")
    body["generationConfig"]["maxOutputTokens"] = 1400
    answer = (await client.post(GENERATE, json=body)).json()
    assert answer["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert len(pictures(answer)) == 1
    assert answer["usageMetadata"]["candidatesTokenCount"] == 1400


async def test_a_picture_may_be_only_in_a_thought(client: httpx2.AsyncClient) -> None:
    answer = await answered(client, "thought-only-image")
    assert (len(pictures(answer)), len(pictures(answer, thoughts=True))) == (0, 1)
    assert "thoughtSignature" not in answer["candidates"][0]["content"]["parts"][0]


async def test_the_size_asked_for_may_be_ignored_and_still_charged(client: httpx2.AsyncClient) -> None:
    answer = await answered(client, "wrong-size")
    assert pictures(answer)[0].size == (1024, 1024)
    assert answer["usageMetadata"]["candidatesTokensDetails"][0]["tokenCount"] == 747


@pytest.mark.parametrize("reason", ["LANGUAGE", "SPII", "BLOCKLIST", "A_WORD_OF_2028"])
async def test_any_finish_reason_can_be_had_with_any_support_code(
    client: httpx2.AsyncClient, reason: str
) -> None:
    answer = await answered(client, f"finish:{reason}]] [[emulate:support-code:58061214")
    [candidate] = answer["candidates"]
    assert (candidate["finishReason"], candidate["content"]) == (reason, {"role": "model"})
    assert candidate["finishMessage"].endswith("Support code: 58061214.")


@pytest.mark.parametrize(("path", "explained"), [(GENERATE, False), (VERTEX, True)])
async def test_any_block_reason_can_be_had_and_vertex_explains_it(
    client: httpx2.AsyncClient, path: str, explained: bool
) -> None:
    feedback = (await answered(client, "block:JAILBREAK]] [[emulate:support-code:62263041", path))[
        "promptFeedback"
    ]
    assert feedback["blockReason"] == "JAILBREAK"
    assert ("62263041" in feedback.get("blockReasonMessage", "")) == explained


@pytest.mark.parametrize(("name", "count"), [("thoughts", 1), ("thoughts:2", 2)])
async def test_thoughts_may_come_unasked_before_the_picture(
    client: httpx2.AsyncClient, name: str, count: int
) -> None:
    parts = (await answered(client, name))["candidates"][0]["content"]["parts"]
    assert ["text" in part for part in parts] == [True, *[False] * count, False]
    assert [part.get("thought", False) for part in parts] == [True] * (count + 1) + [False]
    assert ["thoughtSignature" in part for part in parts] == [False] * (count + 1) + [True]


@pytest.mark.parametrize(
    ("name", "label", "really"),
    [("png", "image/png", "PNG"), ("webp", "image/webp", "WEBP"), ("mislabelled", "image/png", "WEBP")],
)
async def test_a_picture_may_come_in_another_format_than_it_says(
    client: httpx2.AsyncClient, name: str, label: str, really: str
) -> None:
    answer = await answered(client, name)
    assert answer["candidates"][0]["content"]["parts"][0]["inlineData"]["mimeType"] == label
    assert [picture.format for picture in pictures(answer)] == [really]


async def test_a_picture_may_be_none_or_endless(client: httpx2.AsyncClient) -> None:
    with pytest.raises(UnidentifiedImageError):
        pictures(await answered(client, "damaged"))
    huge = await client.post(GENERATE, json=prompting("huge:3"))
    assert len(huge.content) > 3 * 2**20 * 4 // 3
    assert len(pictures(huge.json())) == 1


async def test_base64_may_be_written_in_its_other_alphabet(client: httpx2.AsyncClient) -> None:
    data = [
        (await answered(client, name))["candidates"][0]["content"]["parts"][0]["inlineData"]["data"]
        for name in ("url-safe", "pretty")
    ]
    assert ("-" in data[0], "+" in data[0], "-" in data[1], "+" in data[1]) == (True, False, False, True)


async def test_a_connection_may_be_lost_before_the_first_byte(client: httpx2.AsyncClient) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await client.post(GENERATE, json=prompting("dropped"))


async def test_a_model_may_say_that_it_is_deprecated(client: httpx2.AsyncClient) -> None:
    assert (await answered(client, "model-deprecated"))["modelStatus"]["modelStage"] == "DEPRECATED"


async def test_another_model_may_say_that_it_answered(client: httpx2.AsyncClient) -> None:
    answer = await answered(client, "answered-by:gemini-4-picture-001")
    assert answer["modelVersion"] == "gemini-4-picture-001"


@pytest.mark.parametrize(
    "name", ["escaped-padding", "pretty", "pretty]] [[emulate:escaped-padding", "trickled"]
)
async def test_another_way_to_write_the_answer_changes_nothing_in_it(
    client: httpx2.AsyncClient, name: str
) -> None:
    response = await client.post(GENERATE, json=prompting(name))
    assert len(pictures(response.json())) == 1
    assert (b"\n  " in response.content) == ("pretty" in name)
    assert (b"=" not in response.content) == ("escaped" in name)


@pytest.mark.parametrize(
    ("name", "error"), [("reset", httpx2.ReadError), ("truncated", httpx2.RemoteProtocolError)]
)
@pytest.mark.parametrize("path", [GENERATE, STREAM + "?alt=sse"])
async def test_a_connection_may_be_lost_in_mid_answer(
    client: httpx2.AsyncClient, path: str, name: str, error: type[Exception]
) -> None:
    received = 0
    with pytest.raises(error):  # noqa: PT012 - the body must have begun before it is lost
        async with client.stream("POST", path, json=prompting(name)) as response:
            assert response.status_code == 200
            async for piece in response.aiter_raw():
                received += len(piece)
    assert received > 0 or name == "reset"


async def test_json_may_be_broken_under_a_good_status(client: httpx2.AsyncClient) -> None:
    response = await client.post(GENERATE, json=prompting("broken-json"))
    assert response.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        response.json()


@pytest.mark.parametrize(("name", "last"), [("stream-error", "error"), ("stream-cut", "candidates")])
async def test_a_stream_may_end_in_an_error_or_early(
    client: httpx2.AsyncClient, name: str, last: str
) -> None:
    response = await client.post(STREAM, params={"alt": "sse"}, json=prompting(name))
    events = [json.loads(event.removeprefix("data: ")) for event in response.text.split("\r\n\r\n") if event]
    assert next(iter(events[-1])) == last
    assert not any("finishReason" in event.get("candidates", [{}])[0] for event in events)


@pytest.mark.parametrize(
    "name",
    [
        "slow:soon",
        "slow",
        "slow:601",
        "hold",
        "pretty:1",
        "quota:x",
        "finish",
        "finish:stop",
        "block:1",
        "thoughts:3",
        "huge:0",
        "huge:301",
        "support-code:x",
    ],
)
async def test_an_argument_that_does_not_fit_is_refused(client: httpx2.AsyncClient, name: str) -> None:
    assert (await client.post(GENERATE, json=prompting(name))).status_code == 400


async def test_a_slow_answer_takes_its_time(client: httpx2.AsyncClient) -> None:
    clock = asyncio.get_running_loop()
    start = clock.time()
    await answered(client, "slow:0.3")
    assert clock.time() - start >= 0.3


async def test_held_answers_are_counted_and_released_together(client: httpx2.AsyncClient) -> None:
    waiting = [asyncio.create_task(answered(client, "hold:together")) for _ in range(3)]

    async def all_held() -> bool:
        return bool((await client.get("/emulator/held/together")).json() == {"held": 3})

    await until(all_held)
    assert not any(task.done() for task in waiting)
    assert (await client.post("/emulator/release/together")).json() == {"released": 3}
    answers = await asyncio.gather(*waiting)
    assert all(len(pictures(answer)) == 1 for answer in answers)
    assert (await client.get("/emulator/held/together")).json() == {"held": 0}
    await answered(client, "hold:together")


async def test_a_caller_who_leaves_is_still_served_and_charged(client: httpx2.AsyncClient) -> None:
    await client.delete("/emulator/calls")
    leaving = asyncio.create_task(answered(client, "hold:leaving"))

    async def held() -> bool:
        return bool((await client.get("/emulator/held/leaving")).json() == {"held": 1})

    async def charged() -> bool:
        return bool((await client.get("/emulator/calls")).json()["billed"]["pictures"] == 1)

    await until(held)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert not await charged()
    await client.post("/emulator/release/leaving")
    await until(charged)


async def test_the_rehearsals_can_be_asked_for(client: httpx2.AsyncClient) -> None:
    listed = (await client.get("/emulator/rehearsals")).json()
    assert listed["quota"] == {"summary": "a minute's quota is used up", "argument": "times"}
    assert set(listed) == set(FAULTS)


async def test_calls_are_counted_by_request_and_can_be_forgotten(client: httpx2.AsyncClient) -> None:
    assert (await client.delete("/emulator/calls")).status_code == 204
    await asyncio.gather(*(client.post(GENERATE, json=small("Counted")) for _ in range(5)))
    await client.post(GENERATE, json=prompting("quota"))
    await client.post(GENERATE, json={})
    counted = (await client.get("/emulator/calls")).json()
    assert (counted["generate"], counted["refused"], counted["running"]) == (6, 2, 0)
    assert sorted(counted["by_fingerprint"].values()) == [1, 5]
    assert counted["billed"]["pictures"] == 5
    assert counted["billed"]["image_tokens"] == 5 * 747
    await client.delete("/emulator/calls")
    assert (await client.get("/emulator/calls")).json()["generate"] == 0
