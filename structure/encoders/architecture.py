"""What the configurations of all structure encoders can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, ClassVar, TypeVar

from protclip.errors import ConfigError

Self = TypeVar("Self", bound="Architecture")


class Architecture:
    """Base of the frozen dataclasses that configure structure encoders.

    Attributes
    ----------
    place : str
        What error messages call the encoder.
    sizes : mapping of str to mapping
        Values of the named sizes.
    """

    place: ClassVar[str]
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]]

    @classmethod
    def sized(cls: type[Self], size: str, **changes: Any) -> Self:
        """A named size, ``"tiny"``, ``"small"`` or ``"published"``, with single values changed.

        Raises
        ------
        ConfigError
            If there is no such size or entry, or a value is out of range.
        """
        if size not in cls.sizes:
            raise ConfigError(
                "unknown size of the structure encoder", got=repr(size), expected=" or ".join(cls.sizes)
            )
        return cls.from_dict({**cls.sizes[size], **changes})

    @classmethod
    def from_dict(cls: type[Self], values: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`; values left out keep their defaults.

        Raises
        ------
        ConfigError
            If an entry is unknown, or a value out of range.
        """
        known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        for name in values:
            if name not in known:
                raise ConfigError("unknown entry", where=cls.place, got=name, expected=", ".join(known))
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values (TOML types)."""
        values = asdict(self)  # type: ignore[call-overload]
        return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}

    def _check(self, checks: Sequence[tuple[str, bool, str]]) -> None:
        """Refuse the first value that is not good, of (name, whether it is, what is expected)."""
        for name, good, expected in checks:
            if not good:
                value = str(getattr(self, name))
                raise ConfigError(
                    "value out of range", where=f"{self.place}, {name}", got=value, expected=expected
                )
