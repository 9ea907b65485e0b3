"""Pseudo-labels from the matched rows of a batch for its unmatched rows.

An unmatched row is compared with the matched rows of its own modality, and their partners in the other
modality become its label: the partner of the nearest (hard), a softmax over all of them (soft), or the row of
an entropic transport plan, in which no partner may be chosen by everybody (S-CLIP, Mo et al., arXiv
2305.14095).  Labels are constant in the gradient.  Any two modalities, either or both of them with
unmatched rows.
"""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from protclip.config.checks import check_choice, check_number
from protclip.config.loss import PseudoLabels
from protclip.errors import ConfigError
from protclip.losses.pairwise import (
    as_full,
    check_pairs,
    check_rows,
    connected_zero,
    in_full_precision,
    row_logsumexp,
)


@torch.no_grad()
def pseudo_labels(
    rows: Tensor, known: Tensor, scale: Tensor | float, kind: PseudoLabels, *, steps: int = 10
) -> Tensor:
    """Distribution over the matched items for each unmatched row of the same modality.

    Parameters
    ----------
    rows : Tensor
        [n, d] unmatched unit rows.
    known : Tensor
        [m, d] matched unit rows of the same modality, m >= 1.
    scale : Tensor or float
        Inverse temperature of the softmax, and inverse regulariser of the transport plan.
    kind : {"hard", "soft", "s-clip"}
        All weight on the most similar; softmax of ``scale * rows . known``; row of the entropic transport
        plan between uniform masses at cost ``-rows . known``, normalised to sum 1.
    steps : int
        Sinkhorn iterations of "s-clip".

    Returns
    -------
    Tensor
        [n, m], rows of sum 1, without gradient.

    Raises
    ------
    ConfigError
        ``kind`` is not one of the three.

    Examples
    --------
    >>> rows = torch.eye(3)
    >>> pseudo_labels(rows[:2], rows, 5.0, "hard").tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    check_choice("pseudo_labels", kind, [word for word in get_args(PseudoLabels) if word != "none"])
    logits = as_full(rows) @ as_full(known).T * scale
    if kind == "hard":
        return torch.nn.functional.one_hot(logits.argmax(1), len(known)).to(logits)
    if kind == "soft":
        return logits.softmax(1)
    # Masses are uniform and labels normalised, so that only the columns' potential counts in the end.
    columns, of_rows = torch.zeros_like(logits[:1]), torch.zeros_like(logits[:, :1])
    for _ in range(steps):
        columns = -torch.logsumexp(logits + of_rows, 0, keepdim=True)
        of_rows = -torch.logsumexp(logits + columns, 1, keepdim=True)
    return (logits + columns).softmax(1)


def soft_cross_entropy(rows: Tensor, keys: Tensor, scale: Tensor | float, targets: Tensor) -> Tensor:
    """Cross-entropy of ``softmax(scale * rows . keys)`` to target distributions, for every row.

    Parameters
    ----------
    rows, keys : Tensor
        [n, d] and [m, d].
    scale : Tensor or float
        Inverse temperature.
    targets : Tensor
        [n, m], rows of sum 1.

    Returns
    -------
    Tensor
        [n].

    Examples
    --------
    >>> rows = torch.eye(2)
    >>> [round(x, 4) for x in soft_cross_entropy(rows, rows, 1.0, torch.full((2, 2), 0.5)).tolist()]
    [0.8133, 0.8133]
    """
    scaled = rows * scale
    return row_logsumexp(scaled, keys) - (scaled * (targets @ keys)).sum(1)


@in_full_precision
def pseudo_label_loss(
    u: Tensor, v: Tensor, scale: Tensor | float, n_pairs: int, kind: PseudoLabels, *, steps: int = 10
) -> Tensor:
    """Cross-entropy of the unmatched rows to the matched rows of the other side, with pseudo-labels.

    Parameters
    ----------
    u, v : Tensor
        [n, d] and [m, d] unit rows; row i < `n_pairs` of u matches row i of v.
    scale : Tensor or float
        Inverse temperature, as in the contrastive loss of the pairs; its gradient comes from the
        predictions, not from the labels.
    n_pairs : int
        Number of matched rows.  Without any, or without unmatched rows, the loss is an exact zero.
    kind, steps
        See :func:`pseudo_labels`.

    Returns
    -------
    Tensor
        Scalar: mean over the unmatched rows of u plus mean over those of v.

    Raises
    ------
    ConfigError
        The shapes do not fit, `n_pairs` exceeds the rows, or `kind` is unknown.

    Examples
    --------
    >>> u = torch.eye(4)
    >>> float(pseudo_label_loss(u[:2], u[:2], 9.0, 2, "s-clip"))
    0.0
    >>> round(float(pseudo_label_loss(u, u[:2], 9.0, 2, "s-clip").exp()), 4)
    2.0
    """
    check_rows(u, v)
    check_number("pseudo_steps", steps, low=1, integer=True)
    check_pairs("pseudo-label loss", u, v, n_pairs)
    u, v = as_full(u), as_full(v)
    total = connected_zero(u, v, scale)
    if n_pairs == 0:
        return total
    for own, other in ((u, v), (v, u)):
        if len(own) > n_pairs:
            labels = pseudo_labels(own[n_pairs:], own[:n_pairs], scale, kind, steps=steps)
            total = total + soft_cross_entropy(own[n_pairs:], other[:n_pairs], scale, labels).mean()
    return total


@in_full_precision
def keyword_loss(
    rows: Tensor, known: Tensor, scale: Tensor | float, keywords: Tensor, candidates: Tensor
) -> Tensor:
    """Partial-label loss: one of the keywords of the nearest matched item's partner fits the row.

    Which one is not known.  The label is the prediction itself, restricted to the candidates and
    normalised (as in progressive identification, Lv et al., ICML 2020), so that training settles on
    the keyword that fits best.

    Parameters
    ----------
    rows : Tensor
        [n, d] unmatched unit rows of a modality.
    known : Tensor
        [m, d] matched unit rows of the same modality.
    scale : Tensor or float
        Inverse temperature.
    keywords : Tensor
        [k, d] unit rows of the keywords, in the other modality.
    candidates : Tensor
        bool [m, k]: whether a keyword belongs to the partner of a matched item.

    Returns
    -------
    Tensor
        Scalar, averaged over the rows whose nearest item has a keyword; 0 where none has.

    Raises
    ------
    ConfigError
        The shapes do not fit.

    Examples
    --------
    >>> x = torch.eye(3)
    >>> only = torch.tensor([[True, False], [False, True]])
    >>> float(keyword_loss(x[:1], x[:2], 100.0, x[:2], only))
    0.0
    """
    check_rows(rows, known)
    check_rows(rows, keywords)
    if candidates.shape != (len(known), len(keywords)):
        raise ConfigError(
            "candidates do not fit the rows",
            where="keyword loss",
            got=f"shape {tuple(candidates.shape)}",
            expected=f"({len(known)}, {len(keywords)})",
        )
    rows, keywords = as_full(rows), as_full(keywords)
    nothing = connected_zero(rows, keywords, scale)
    if not (len(rows) and len(known) and len(keywords)):
        return nothing
    with torch.no_grad():
        allowed = candidates[(rows @ as_full(known).T).argmax(1)]
        usable = allowed.any(1)
        logits = (rows @ keywords.T * scale).masked_fill(~allowed, -torch.inf)
        labels = torch.where(usable[:, None], logits, 0.0).softmax(1) * usable[:, None]
    losses = soft_cross_entropy(rows, keywords, scale, labels)
    return nothing + torch.where(usable, losses, 0.0).sum() / usable.sum().clamp_min(1)
