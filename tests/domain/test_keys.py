"""Gateway keys: what is made is read back, and nothing else is."""

from __future__ import annotations

import hashlib
import hmac
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.keys import ENTROPY_BYTES, hash_secret, mint, parse, resembles_key

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
ZERO = bytes(ENTROPY_BYTES)

# Made once by this code. A change of the format would lock every caller out, so these must never change.
GOLDEN = {
    ("prod", ZERO, None): "fg_prod_00000000000_0000000000000000000000000000000000000000000_2CnDIq",
    (
        "dev",
        bytes(range(ENTROPY_BYTES)),
        "k1",
    ): "fg_dev_k1_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf_411Gyd",
    (
        "test",
        b"\xff" * ENTROPY_BYTES,
        None,
    ): "fg_test_LygHa16AHYF_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1_1verq7",
}

entropies = st.binary(min_size=ENTROPY_BYTES, max_size=ENTROPY_BYTES)
environments = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=16)


@pytest.mark.parametrize(("made_of", "text"), GOLDEN.items())
def test_the_format_of_keys_never_changes(made_of: tuple[str, bytes, str | None], text: str) -> None:
    assert mint(*made_of).text == text


@given(environments, entropies)
def test_a_minted_key_is_read_back_whole(env: str, entropy: bytes) -> None:
    minted = mint(env, entropy)
    parsed = parse(minted.text)
    assert parsed is not None
    assert (parsed.env, parsed.key_id, parsed.secret) == (env, minted.key_id, minted.secret)


@given(entropies, entropies)
def test_different_entropy_makes_different_secrets(one: bytes, other: bytes) -> None:
    assert (mint("prod", one).secret == mint("prod", other).secret) == (one[:32] == other[:32])


def test_every_change_of_one_character_is_refused() -> None:
    text = mint("prod", bytes(range(ENTROPY_BYTES)), "k1").text
    changed = [
        text[:at] + character + text[at + 1 :]
        for at in range(len(text))
        for character in ALPHABET + "_-. \n"
        if character != text[at]
    ]
    assert len(changed) > 4000
    assert [one for one in changed if parse(one) is not None] == []


GOOD = mint("prod", ZERO).text


@pytest.mark.parametrize(
    "presented",
    [
        "",
        GOOD + "\n",
        " " + GOOD,
        GOOD + "0",
        GOOD[:-1],
        GOOD.upper(),
        GOOD.replace("fg_", "gf_"),
        GOOD.replace("_", "-"),
        GOOD.replace("0", "\N{FULLWIDTH DIGIT ZERO}"),
        GOOD.replace("0", "\N{ARABIC-INDIC DIGIT ZERO}"),
        GOOD * 1000,
        "\ud800",
    ],
)
def test_whatever_is_no_key_is_refused_without_an_error(presented: str) -> None:
    assert parse(presented) is None


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("env", "entropy", "key_id"),
    [
        ("", ZERO, None),
        ("Prod", ZERO, None),
        ("a" * 17, ZERO, None),
        ("prod\n", ZERO, None),
        ("prod", ZERO[1:], None),
        ("prod", ZERO + b"0", None),
        ("prod", ZERO, ""),
        ("prod", ZERO, "k_1"),
        ("prod", ZERO, "k" * 33),
    ],
)
def test_a_key_of_wrong_parts_is_not_minted(env: str, entropy: bytes, key_id: str | None) -> None:
    with pytest.raises(ValueError, match="key"):
        mint(env, entropy, key_id)


def test_neither_form_of_a_key_shows_its_secret_in_its_repr() -> None:
    minted = mint("prod", bytes(range(ENTROPY_BYTES)))
    for shown in (
        repr(minted),
        f"{minted}",
        str([minted]),
        repr(parse(minted.text)),
        f"{parse(minted.text)}",
    ):
        assert minted.secret not in shown
        assert minted.key_id in shown


@given(st.binary(max_size=64), st.text(ALPHABET, min_size=43, max_size=43))
def test_what_is_kept_of_a_secret_is_its_hmac(pepper: bytes, secret: str) -> None:
    assert hash_secret(pepper, secret) == hmac.digest(pepper, secret.encode(), hashlib.sha256).hex()


def test_a_key_is_recognised_inside_other_text() -> None:
    assert resembles_key("id-" + mint("prod", ZERO).text)
    assert not resembles_key("a-plain-request-id")
