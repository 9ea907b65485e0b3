"""The training objective: a dictionary of named, weighted terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from protclip.config.checks import check_number
from protclip.config.loss import LossConfig
from protclip.errors import ConfigError
from protclip.losses.cauchy_schwarz import CauchySchwarz
from protclip.losses.clip import clip_loss
from protclip.losses.copies import Copies
from protclip.losses.mmd import MKMMD
from protclip.losses.pairwise import connected_zero
from protclip.losses.pseudo_labels import keyword_loss, pseudo_label_loss
from protclip.losses.sdd import SDD
from protclip.losses.sigmoid import sigmoid_loss
from protclip.losses.ssl import NTXent
from protclip.parallel.processes import gather_with_grad


class Keywords(NamedTuple):
    """Keywords of one side's matched items.

    Parameters
    ----------
    rows : Tensor
        [k, d] unit rows of the keywords, projected as items of that side.
    candidates : Tensor
        bool [n_pairs, k]: which keywords belong to which matched item.
    """

    rows: Tensor
    candidates: Tensor


class Views(NamedTuple):
    """Projected rows of one batch.

    Parameters
    ----------
    u, v : Tensor
        [n, d] and [m, d] unit rows of the two modalities, the matched ones first.
    u_view, v_view : Tensor or None
        [n, d] and [m, d] unit rows of the augmented views; None where no term uses them.
    n_pairs : int
        Number of matched rows.
    scale : Tensor or float
        Inverse temperature of the supervised contrastive term.
    u_items, v_items : Tensor or None
        int64 [n] and [m]: which item of its modality a row is, for terms that remember items.
    u_keywords, v_keywords : Keywords or None
        Keywords of the matched items, for modalities that have them.
    copies : Copies or None
        Which rows of the whole batch, that of all processes, are of equal items; None where all differ.
    """

    u: Tensor
    v: Tensor
    u_view: Tensor | None = None
    v_view: Tensor | None = None
    n_pairs: int = 0
    scale: Tensor | float = 1.0
    u_items: Tensor | None = None
    v_items: Tensor | None = None
    u_keywords: Keywords | None = None
    v_keywords: Keywords | None = None
    copies: Copies | None = None


class Term(NamedTuple):
    """One named loss: its weight in the total and the function of the batch."""

    weight: float
    loss: Callable[[Views], Tensor]


def gather_views(views: Views) -> Views:
    """The batch of all processes, matched rows first, with gradients; the same batch in one process.

    Processes may hold different numbers of rows and pairs.  Keywords are gathered as rows; their candidates,
    and the copies, are those of the whole batch already, in the order of the gathered rows.

    Examples
    --------
    >>> rows = torch.eye(3)
    >>> gather_views(Views(rows, rows, n_pairs=2)).n_pairs
    2
    """

    def whole(rows: Tensor) -> Tensor:
        return torch.cat([gather_with_grad(rows[: views.n_pairs]), gather_with_grad(rows[views.n_pairs :])])

    def optional(rows: Tensor | None) -> Tensor | None:
        return None if rows is None else whole(rows)

    def words(keywords: Keywords | None) -> Keywords | None:
        return None if keywords is None else Keywords(gather_with_grad(keywords.rows), keywords.candidates)

    return Views(
        u=whole(views.u),
        v=whole(views.v),
        u_view=optional(views.u_view),
        v_view=optional(views.v_view),
        n_pairs=len(gather_with_grad(views.u.detach()[: views.n_pairs])),
        scale=views.scale,
        u_items=optional(views.u_items),
        v_items=optional(views.v_items),
        u_keywords=words(views.u_keywords),
        v_keywords=words(views.v_keywords),
        copies=views.copies,
    )


class Objective(nn.Module):
    """Weighted sum of the losses that the configuration names.

    ``forward`` returns every computed term unweighted under its own name (``clip``, ``mmd``, ``sdd``, ``cs``,
    ``ssl_left``, ``ssl_right``, ``pseudo``, ``keywords``) and the weighted total under ``loss``.  Terms of
    weight 0 are neither computed nor returned.  It gathers nothing: pass the rows of all processes, see
    :func:`gather_views`.  What ``sdd_queue`` and extra terms remember is in its state dictionary; without
    them it has no state.

    Parameters
    ----------
    config : LossConfig
        Weights and switches.
    extra : mapping of str to Term, optional
        Further named terms; names must be new.  The state of those that are modules becomes part of the
        objective's.

    Raises
    ------
    ConfigError
        No term is left, or an extra term's name is taken.

    Examples
    --------
    >>> from protclip.config.presets import loss_preset
    >>> rows = torch.eye(4)
    >>> objective = Objective(loss_preset("default", ssl_weight=0.0))
    >>> sorted(objective(Views(rows, rows, n_pairs=2, scale=10.0)))
    ['clip', 'loss', 'mmd', 'sdd']
    """

    def __init__(self, config: LossConfig, extra: Mapping[str, Term] | None = None) -> None:
        super().__init__()
        self.config = config
        self.mmd: MKMMD | None = None
        if config.mmd_weight:
            self.mmd = MKMMD(
                bandwidths=config.mmd_bandwidths,
                bandwidth_mode=config.mmd_bandwidth_mode,
                degrees=config.mmd_degrees,
                slope=config.mmd_slope,
                offset=config.mmd_offset,
                weights=config.mmd_weights,
                estimator=config.mmd_estimator,
                block_size=config.block_size,
            )
        self.sdd = SDD(
            relative_distance=config.sdd_relative_distance,
            divergence=config.sdd_divergence,
            self_term=config.sdd_self_term,
            reduce=config.sdd_reduce,
            bandwidth=config.sdd_bandwidth,
            constant=config.sdd_constant,
            min_variance=config.sdd_min_variance,
            rescale=config.sdd_rescale,
            rescale_max=config.sdd_rescale_max,
            queue=config.sdd_queue,
            block_size=config.block_size,
        )
        self.cs = CauchySchwarz(config.cs_bandwidth, block_size=config.block_size)
        self.ssl = NTXent(config.ssl_temperature, block_size=config.block_size)
        contrastive = config.clip_weight * config.ssl_weight
        labelled = config.pseudo_labels != "none"
        partial = config.pseudo_labels == "s-clip"
        terms = {
            "clip": Term(config.clip_weight, self._clip),
            "mmd": Term(config.mmd_weight, self._mmd),
            "sdd": Term(config.sdd_weight, self._sdd),
            "cs": Term(config.cs_weight, self._cs),
            "ssl_left": Term(contrastive, self._ssl_left),
            "ssl_right": Term(contrastive, self._ssl_right),
            "pseudo": Term(config.pseudo_weight if labelled else 0.0, self._pseudo),
            "keywords": Term(config.keyword_weight if partial else 0.0, self._keywords),
        }
        self.extra = nn.ModuleDict()
        for name, term in (extra or {}).items():
            if name in terms or name == "loss":
                raise ConfigError(
                    "name is taken", where="objective", got=name, expected="a new name for the term"
                )
            check_number(f"weight of {name}", term.weight)
            terms[name] = term
            if isinstance(term.loss, nn.Module):
                self.extra[name] = term.loss
        self.terms = {name: term for name, term in terms.items() if term.weight}
        if not self.terms:
            raise ConfigError(
                "every term of the objective has weight 0",
                where="objective",
                expected="at least one of " + ", ".join(terms),
            )

    def forward(self, views: Views) -> dict[str, Tensor]:
        """Losses of one batch.

        Raises
        ------
        ConfigError
            The rows do not fit together, or a self-supervised term lacks its augmented views.
        """
        losses = {name: term.loss(views) for name, term in self.terms.items()}
        total = torch.stack([self.terms[name].weight * loss for name, loss in losses.items()]).sum()
        return {"loss": total, **losses}

    def _clip(self, views: Views) -> Tensor:
        contrast = sigmoid_loss if self.config.contrast == "sigmoid" else clip_loss
        return contrast(
            views.u,
            views.v,
            views.scale,
            views.n_pairs,
            self.config.negatives,
            block_size=self.config.block_size,
            copies=views.copies,
        )

    def _mmd(self, views: Views) -> Tensor:
        if self.mmd is None:
            return connected_zero(views.u, views.v)
        value: Tensor = self.mmd(views.u, views.v)
        return value

    def _sdd(self, views: Views) -> Tensor:
        value: Tensor = self.sdd(views.u, views.v)
        return value

    def _cs(self, views: Views) -> Tensor:
        value: Tensor = self.cs(views.u, views.v)
        return value

    def _pseudo(self, views: Views) -> Tensor:
        config = self.config
        return pseudo_label_loss(
            views.u, views.v, views.scale, views.n_pairs, config.pseudo_labels, steps=config.pseudo_steps
        )

    def _keywords(self, views: Views) -> Tensor:
        """Either side's keywords label the unmatched rows of the other side."""
        n = views.n_pairs
        total = connected_zero(views.u, views.v)
        for rows, keywords in ((views.u, views.v_keywords), (views.v, views.u_keywords)):
            if keywords is not None:
                loss = keyword_loss(rows[n:], rows[:n], views.scale, keywords.rows, keywords.candidates)
                total = total + loss
        return total

    def _ssl_left(self, views: Views) -> Tensor:
        return self._ssl(views.u, views.u_view, "u_view", views.copies and views.copies.u)

    def _ssl_right(self, views: Views) -> Tensor:
        return self._ssl(views.v, views.v_view, "v_view", views.copies and views.copies.v)

    def _ssl(self, rows: Tensor, augmented: Tensor | None, name: str, groups: Tensor | None) -> Tensor:
        if augmented is None:
            raise ConfigError(
                "the self-supervised terms need augmented views",
                where=name,
                got="None",
                hint="Pass the views or set ssl_weight to 0.",
            )
        value: Tensor = self.ssl(rows, augmented, groups)
        return value
