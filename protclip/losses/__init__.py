"""Losses on plain matrices of unit rows, and the objective that puts them together."""

from __future__ import annotations

from protclip.losses.cauchy_schwarz import CauchySchwarz
from protclip.losses.clip import clip_loss
from protclip.losses.copies import Copies
from protclip.losses.mmd import MKMMD
from protclip.losses.objective import Keywords, Objective, Term, Views, gather_views
from protclip.losses.pseudo_labels import keyword_loss, pseudo_label_loss, pseudo_labels, soft_cross_entropy
from protclip.losses.sdd import SDD
from protclip.losses.sigmoid import sigmoid_loss
from protclip.losses.ssl import NTXent

__all__ = [
    "MKMMD",
    "SDD",
    "CauchySchwarz",
    "Copies",
    "Keywords",
    "NTXent",
    "Objective",
    "Term",
    "Views",
    "clip_loss",
    "gather_views",
    "keyword_loss",
    "pseudo_label_loss",
    "pseudo_labels",
    "sigmoid_loss",
    "soft_cross_entropy",
]
