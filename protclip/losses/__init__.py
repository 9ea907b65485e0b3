"""Losses on plain matrices of unit rows, and the objective that puts them together."""

from __future__ import annotations

from protclip.losses.clip import clip_loss
from protclip.losses.mmd import MKMMD
from protclip.losses.objective import Objective, Term, Views, gather_views
from protclip.losses.sdd import SDD
from protclip.losses.ssl import NTXent

__all__ = ["MKMMD", "SDD", "NTXent", "Objective", "Term", "Views", "clip_loss", "gather_views"]
