"""Command line: one thin file per verb."""

from __future__ import annotations


def main() -> None:
    """Entry point of the ``protclip`` command."""
    from protclip.cli.app import run  # kept out of ``import protclip.cli``

    run()
