"""Small tables that a notebook shows for a result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

LONGEST = 40
"""Characters of a cell; a longer text is cut and shown whole when the pointer rests on it."""


def html_table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """An HTML table; every text is escaped.

    Examples
    --------
    >>> html_table("two", ["id"], [["<a>"]])
    '<p>two</p><table><thead><tr><th>id</th></tr></thead><tbody><tr><td>&lt;a&gt;</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<p>{escape(title)}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def cut(text: str, longest: int = LONGEST) -> str:
    """A text of at most so many characters.

    Examples
    --------
    >>> cut("a long name", 7)
    'a lo...'
    """
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _cell(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    if len(text) <= LONGEST:
        return f"<td>{escape(text)}</td>"
    return f'<td title="{escape(text)}">{escape(cut(text))}</td>'
