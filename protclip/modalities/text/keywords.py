"""Keywords of short texts: which words of a collection say what a text is about, and which a text has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"[^\W_]+")

_FUNCTION_WORDS = """
about after all and another any are around away back because before behind being between both but
can down during each for from front had has have her hers him his into its itself just left many
more most near next not off one onto other others out over own right several she some such than that
the their them then there these they this those three through two under until upon very was were
what when where which while who whose will with without you your
"""


def words_of(text: str) -> list[str]:
    """Lower-case words of a text, in order.

    Examples
    --------
    >>> words_of("A dog's ball, again!")
    ['a', 'dog', 's', 'ball', 'again']
    """
    return _WORD.findall(text.lower())


def learn_keywords(texts: Iterable[str], limit: int, *, most: float = 0.25) -> list[str]:
    """The words that stand in most texts, without function words and those of nearly every text.

    Parameters
    ----------
    texts : iterable of str
    limit : int
        Largest number of keywords.
    most : float
        Words of a larger share of the texts tell nothing.

    Returns
    -------
    list of str
        Most frequent first, then alphabetical; each in at least two texts.

    Examples
    --------
    >>> learn_keywords(["a red dog", "the dog on grass", "grass, a red car", "a cat", "the sea"], 3, most=0.5)
    ['dog', 'grass', 'red']
    """
    functional = set(_FUNCTION_WORDS.split())
    counts: Counter[str] = Counter()
    total = 0
    for text in texts:
        total += 1
        counts.update({word for word in words_of(text) if len(word) > 2 and word not in functional})
    good = [word for word, count in counts.items() if 2 <= count <= max(2, most * total)]
    return sorted(good, key=lambda word: (-counts[word], word))[:limit]


def find_keywords(text: str, keywords: Sequence[str]) -> list[str]:
    """Those keywords, of one or several words, that stand in the text.

    Examples
    --------
    >>> find_keywords("Planes near a tennis court.", ["tennis court", "court", "plane"])
    ['tennis court', 'court']
    """
    flat = f" {' '.join(words_of(text))} "
    return [word for word in keywords if f" {' '.join(words_of(word))} " in flat]
