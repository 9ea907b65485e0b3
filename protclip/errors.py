"""The errors that protclip raises on bad input.

Every message names the place (file, chain, residue or option), says what was got and what was
expected, and how to mend it.  The command line prints the message alone, without a traceback.
"""

from __future__ import annotations


class ProtclipError(Exception):
    """Base class of every error that a user's input can cause.

    Parameters
    ----------
    message : str
        What is wrong, in one sentence.
    where : str, optional
        File, chain, residue or option concerned; printed in front.
    got, expected : str, optional
        What was found and what should have been there.
    hint : str, optional
        How to mend it, as an instruction.

    Examples
    --------
    >>> print(ProtclipError("fraction out of range", where="--paired", got="1.5", expected="0 to 1"))
    --paired: fraction out of range; got 1.5, expected 0 to 1
    """

    exit_code = 2
    """Exit status of a command that ends with this error."""

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        got: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.message = message
        self.where = where
        self.got = got
        self.expected = expected
        self.hint = hint
        super().__init__(message, where, got, expected, hint)

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        facts = [
            f"{label} {value}"
            for label, value in (("got", self.got), ("expected", self.expected))
            if value is not None
        ]
        if facts:
            text += "; " + ", ".join(facts)
        if self.hint:
            text += f". {self.hint}"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword arguments have to survive the trip back from a worker process.
        return (_rebuild, (type(self), self.message, self.where, self.got, self.expected, self.hint))


def _rebuild(
    kind: type[ProtclipError],
    message: str,
    where: str | None,
    got: str | None,
    expected: str | None,
    hint: str | None,
) -> ProtclipError:
    return kind(message, where=where, got=got, expected=expected, hint=hint)


class DataError(ProtclipError):
    """A corpus, list, FASTA file, store or embedding file is unreadable or inconsistent."""


class StructureError(ProtclipError):
    """A structure file or object cannot be turned into a :class:`protclip.structure.protein.Protein`."""


class ConfigError(ProtclipError):
    """An option or configuration entry is unknown, of the wrong type or out of range."""


class WeightsError(ProtclipError):
    """Model weights are missing, damaged or of another architecture than asked for."""


class DownloadError(ProtclipError):
    """A file could not be fetched or failed its checksum."""
