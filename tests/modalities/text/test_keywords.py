"""Keywords of the text side, as partial labels see them."""

from __future__ import annotations

import pytest

from protclip.errors import ConfigError
from protclip.modalities.text.adapter import TextModality
from protclip.modalities.text.keywords import find_keywords, learn_keywords

TEXTS = [
    "Two dogs are playing with a red ball.",
    "A dog and the Ball, in the snow",
    "the snow on the red roof",
    "A man with a ball",
    "A man, the sea",
    "a boat at sea",
    "with the and",
]


def test_frequent_words_of_meaning_are_keywords() -> None:
    assert learn_keywords(TEXTS, 10, most=0.5) == ["ball", "man", "red", "sea", "snow"]
    assert learn_keywords(TEXTS, 2, most=0.5) == ["ball", "man"]
    assert "ball" not in learn_keywords(TEXTS, 10, most=0.3), "a word of three in seven texts tells little"
    assert learn_keywords(reversed(TEXTS), 10, most=0.5) == learn_keywords(TEXTS, 10, most=0.5)
    assert learn_keywords([], 10) == []


def test_keywords_are_found_as_whole_words() -> None:
    words = ["ball", "man", "sea side", "SNOW", "café"]
    assert find_keywords("Snowman at the Sea-Side café", words) == ["sea side", "café"]
    assert find_keywords("the snow, the ball", words) == ["ball", "SNOW"]
    assert find_keywords("", words) == []


def test_text_side_learns_keeps_and_names_them() -> None:
    side = TextModality.create("tiny", keywords=3)
    assert not side.has_keywords
    side.prepare(TEXTS * 2)
    assert side.has_keywords
    assert len(side.known_keywords) == 3
    again = TextModality.from_config(side.config())
    assert again.has_keywords
    assert again.known_keywords == side.known_keywords
    assert again.keywords(TEXTS[2]) == side.keywords(TEXTS[2])
    assert side.keyword_item("dog") == "a photograph of dog."
    given = TextModality.from_options(
        {"encoder": "tiny", "keywords": ["tennis court", "plane"], "keyword_prompt": "an aerial view of {}"}
    )
    given.prepare(TEXTS)
    assert given.keywords("a plane and a tennis court") == ["tennis court", "plane"]
    assert given.keyword_item("plane") == "an aerial view of plane"
    none = TextModality.create("tiny", keywords=0)
    none.prepare(TEXTS)
    assert not none.has_keywords


def test_a_prompt_without_place_is_refused() -> None:
    with pytest.raises(ConfigError, match="keyword_prompt: no place for the keyword"):
        TextModality.create("tiny", keyword_prompt="a photograph")
