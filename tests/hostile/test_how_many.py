"""How many hostile inputs there are, by kind; each is one request or more of the tests beside this."""

from __future__ import annotations

from tests.domain.test_addresses import REFUSED as ADDRESSES
from tests.hostile import test_files, test_forms, test_json, test_words
from tests.hostile.test_the_card_is_law import SAID
from tests.media.inspection_cases import HARMLESS, HOSTILE, SIGNATURES

LEAST, LEAST_PDFS = 120, 7
KINDS = {
    "requests that the card forbids": len(SAID),
    "pictures and documents that lie, bomb or end early": len(HOSTILE),
    "files that are no pictures": len(test_files.NO_PICTURES) + len(SIGNATURES),
    "files that are two things at once": len(HARMLESS) + len(test_files.POLYGLOTS),
    "PDFs": len(test_files.PDFS),
    "texts that are not UTF-8": len(test_files.TEXTS),
    "JSON that is none, deep, large or numerous": len(test_json.UNREADABLE) + len(test_json.LARGE),
    "numbers beyond all bounds": len(test_json.NUMBERS),
    "types in fields": len(test_json.TYPES) * len(test_json.FIELDS),
    "base64": len(test_json.BASE64) + len(test_json.ESCAPED),
    "forms": len(test_forms.UNREADABLE) + len(test_forms.REFUSED),
    "names of files": len(test_forms.NAMES),
    "words with tricks": len(test_words.TRICKS) * len(test_words.FIELDS),
    "addresses": 3 * len(ADDRESSES),
    "names of pictures": len(test_words.EARLIER),
}


def test_there_are_at_least_120_hostile_inputs_and_seven_pdfs() -> None:
    print("\n".join(f"{count:4} {kind}" for kind, count in KINDS.items()))  # noqa: T201 - what pytest -s is for
    print(f"{sum(KINDS.values()):4} in all")  # noqa: T201
    assert KINDS["PDFs"] >= LEAST_PDFS
    combined = ("types in fields", "words with tricks", "addresses")
    assert sum(count for kind, count in KINDS.items() if kind not in combined) >= LEAST
