"""Align two sets of ready embeddings in closed form, from few pairs and whole unpaired pools.

Plain arrays and tensors; nothing here knows a protein, a tower or a file.
"""

from __future__ import annotations

from protclip.alignment.cca import LinearMaps, fit_cca
from protclip.alignment.sinkhorn import TransportPlan, sinkhorn
from protclip.alignment.transport import TransportAlignment

__all__ = ["LinearMaps", "TransportAlignment", "TransportPlan", "fit_cca", "sinkhorn"]
