"""Checks of single options: each refuses what cannot be used and says what can."""

from __future__ import annotations

import difflib
import math
import re
import sys
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
    protclip.errors.ConfigError: temperature: out of range; got 0.0, expected a number > 0
    """
    if not isinstance(value, int if integer else (int, float)) or isinstance(value, bool):
        trouble = "wrong type"
    elif not (value > low if above else value >= low) or not value <= high or not _finite(value):
        trouble = "out of range"
    else:
        return
    raise ConfigError(trouble, where=where, got=repr(value), expected=_numbers(low, high, above, integer))


def _finite(value: float) -> bool:
    # A whole number has no limit in Python; one that no float can hold is no usable number.
    return abs(value) <= sys.float_info.max if isinstance(value, int) else math.isfinite(value)


def _numbers(low: float, high: float, above: bool, integer: bool) -> str:
    kind = "a whole number" if integer else "a number"
    least, most = (str(int(n)) if n == n // 1 and abs(n) < 1e16 else f"{n:g}" for n in (low, min(high, 1e99)))
    if low == -math.inf:
        return kind if high == math.inf else f"{kind} <= {most}"
    if high == math.inf:
        return f"{kind} {'>' if above else '>='} {least}"
    return f"{kind} {'above' if above else 'from'} {least} {'and up ' * above}to {most}"


def near(word: object, words: Iterable[str]) -> str | None:
    """A hint that names the word nearest to ``word``; None where none is near.

    Examples
    --------
    >>> near("fp23", ["auto", "fp32", "bf16"])
    'Did you mean fp32?'
    """
    found = difflib.get_close_matches(str(word), [w for w in words if w], n=1)
    return f"Did you mean {found[0]}?" if found else None


def check_choice(where: str, value: object, choices: Iterable[str], *, beside: str = "") -> None:
    """Refuse anything but one of a closed set of words.

    Parameters
    ----------
    where : str
        The option, for the message.
    value : object
        What was given.
    choices : iterable of str
    beside : str
        What else is taken, for the message, e.g. ``a whole number``.

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
    if isinstance(value, str) and value in words:
        return
    shown = [beside] * bool(beside) + [word or "''" for word in words]
    expected = " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
    raise ConfigError(
        "unknown choice", where=where, got=repr(value), expected=expected, hint=near(value, words)
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


def check_device(where: str, value: object) -> None:
    """Refuse what is not the spelling of a device; whether there is one is seen when the run starts.

    Raises
    ------
    ConfigError
        The text names no device.

    Examples
    --------
    >>> check_device("device", "cuda:1")
    >>> check_device("device", 1)
    Traceback (most recent call last):
    protclip.errors.ConfigError: device: no such device; got 1, expected auto, cpu, cuda or cuda:N
    """
    if not isinstance(value, str) or not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", value):
        raise ConfigError(
            "no such device",
            where=where,
            got=repr(value),
            expected="auto, cpu, cuda or cuda:N",
            hint=near(str(value).replace("gpu", "cuda"), ("auto", "cpu", "cuda")),
        )
