"""Checks of single options: each refuses what cannot be used and says what can."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

from protclip.errors import ConfigError


def check_number(
    where: str,
    value: object,
    *,
    low: float = 0.0,
    high: float = math.inf,
    above: bool = False,
    integer: bool = False,
) -> None:
    """Refuse anything but one finite number in range; booleans and text are not numbers.

    Parameters
    ----------
    where : str
        The option, for the message.
    value : object
        What was given.
    low, high : float
        Smallest and largest value allowed.
    above : bool
        Whether `low` itself is out of range.
    integer : bool
        Whether the number must be whole.

    Raises
    ------
    ConfigError
        The value is of another type, not finite or out of range.

    Examples
    --------
    >>> check_number("temperature", 0.07, above=True)
    >>> check_number("temperature", 0.0, above=True)
    Traceback (most recent call last):
    protclip.errors.ConfigError: temperature: not a usable value; got 0.0, expected a number > 0
    """
    expected = f"{'a whole number' if integer else 'a number'} {'>' if above else '>='} {low:g}"
    if high != math.inf:
        expected += f" and <= {high:g}"
    good = (
        isinstance(value, int if integer else (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and (value > low if above else value >= low)
        and value <= high
    )
    if not good:
        raise ConfigError("not a usable value", where=where, got=repr(value), expected=expected)


def check_choice(where: str, value: object, choices: Iterable[str]) -> None:
    """Refuse anything but one of a closed set of words.

    Raises
    ------
    ConfigError
        The value is not among the choices; the nearest one is suggested.

    Examples
    --------
    >>> check_choice("reduce", "men", ("mean", "sum"))
    Traceback (most recent call last):
    protclip.errors.ConfigError: reduce: unknown choice; got 'men', expected mean or sum. Did you mean mean?
    """
    words = list(choices)
    if value in words:
        return
    near = difflib.get_close_matches(str(value), words, n=1)
    raise ConfigError(
        "unknown choice",
        where=where,
        got=repr(value),
        expected=" or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words),
        hint=f"Did you mean {near[0]}?" if near else None,
    )


def check_switch(where: str, value: object) -> None:
    """Refuse anything but true or false.

    Raises
    ------
    ConfigError
        The value is not a boolean.
    """
    if not isinstance(value, bool):
        raise ConfigError("not a switch", where=where, got=repr(value), expected="true or false")


def check_numbers(
    where: str, values: object, *, above: bool = True, low: float = 0.0, integer: bool = False
) -> None:
    """Refuse anything but a list of finite numbers in range.

    Raises
    ------
    ConfigError
        The value is no list or tuple, or one entry is out of range.
    """
    if not isinstance(values, (list, tuple)):
        raise ConfigError(
            "not a list of numbers", where=where, got=repr(values), expected="a list such as [1.0]"
        )
    for index, value in enumerate(values):
        check_number(f"{where}[{index}]", value, low=low, above=above, integer=integer)


def check_range(where: str, value: float, low: float, high: float) -> None:
    """Raise a :class:`ConfigError` that names ``where`` unless ``low <= value <= high``."""
    if not low <= value <= high:  # also False for NaN
        raise ConfigError("out of range", where=where, got=str(value), expected=f"{low} to {high}")
