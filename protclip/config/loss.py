"""Options of the training objective as one plain dataclass."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from protclip.config.checks import check_choice
from protclip.config.schema import Options, option
from protclip.errors import ConfigError

ObjectiveName = Literal[
    "setclip",
    "setclip+s-clip",
    "setclip+transport",
    "clip",
    "clip-all",
    "hard-pl",
    "soft-pl",
    "s-clip",
    "transport",
]
PseudoLabels = Literal["none", "hard", "soft", "s-clip"]
Contrast = Literal["softmax", "sigmoid"]
Negatives = Literal["paired", "all"]
KernelWeights = Literal["uniform", "learned"]
BandwidthMode = Literal["fixed", "median"]
Estimator = Literal["biased", "unbiased"]
Divergence = Literal["kl", "mse"]
Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class LossConfig(Options):
    """Every weight and switch of the training objective.

    The total is ``mmd_weight * MMD + sdd_weight * SDD + clip_weight * (CLIP + ssl_weight * (SSL_left +
    SSL_right))``, plus ``cs_weight * CS``, pseudo-labels, keywords and transport where they are switched on.
    A term of weight 0 is not computed.

    Parameters
    ----------
    mmd_weight : float
        Weight of the kernel distance between the two sets (alpha).
    sdd_weight : float
        Weight of the semantic density distribution term (beta).
    clip_weight : float
        Weight of the contrastive terms, supervised and self-supervised together (gamma).
    ssl_weight : float
        Weight of the self-supervised terms inside the contrastive ones (lambda).
    cs_weight : float
        Weight of the Cauchy-Schwarz divergence between the two sets, another distance beside MMD and SDD.
    contrast : {"softmax", "sigmoid"}
        The supervised contrastive term: which column is the partner (InfoNCE), or for every cell alone
        whether it is a match (SigLIP).
    temperature : float
        Initial temperature of the supervised contrastive term; the logit scale is its inverse.
    learn_temperature : bool
        Whether the temperature is trained.
    max_scale : float
        Upper limit of the logit scale; kept by the model that owns the scale.
    negatives : {"paired", "all"}
        Columns that a matched row is compared with: the matched rows, or all rows.  An unpaired column
        may be the true partner, so that "all" can push partners apart.
    ssl_temperature : float
        Temperature of the self-supervised terms.
    mmd_bandwidths : tuple of float
        One Gaussian kernel ``exp(-d^2 / b)`` for each entry.
    mmd_bandwidth_mode : {"fixed", "median"}
        Whether the bandwidths are squared distances themselves or multiples of the batch's median
        squared distance (held constant in the gradient).
    mmd_degrees : tuple of int
        One polynomial kernel ``((a x.y + c) / (a + c))^p`` for each exponent p.
    mmd_slope, mmd_offset : float
        The a and c of the polynomial kernels.
    mmd_weights : {"uniform", "learned"}
        How the kernels are mixed: equally, or so that the ratio of the squared distance to its standard
        deviation is largest (held constant in the gradient).
    mmd_estimator : {"biased", "unbiased"}
        Whether a row's similarity to itself is kept (never negative) or left out.
    sdd_relative_distance : bool
        Whether distances are divided by the variance of the set whose density is taken.
    sdd_divergence : {"kl", "mse"}
        Two-way Kullback-Leibler form, or mean squared difference of the densities.
    sdd_self_term : bool
        Whether a row counts in the density of its own set at its own place.
    sdd_reduce : {"mean", "sum"}
        Whether densities and the divergence are averages over rows (independent of the batch size) or
        plain sums, which grow with the square of it.
    sdd_bandwidth : float
        The h of the density kernel ``exp(-d^2 / (4 h^2 sigma^2))``.
    sdd_constant : float
        Factor of the densities.
    sdd_min_variance : float
        Floor of the variance by which distances are divided; keeps collapsed sets finite.
    sdd_rescale : bool
        Whether the term is multiplied by the sum of the two sets' inverse squared box diagonals.
    sdd_rescale_max : float
        Upper limit of that factor.
    sdd_queue : int
        Rows of former steps, on either side, that the densities stand on beside the batch; 0 for none.
    cs_bandwidth : float
        The h of the divergence's kernel ``exp(-d^2 / (2 h^2))``.
    pseudo_labels : {"none", "hard", "soft", "s-clip"}
        What the unmatched rows learn from the matched ones of their own modality: nothing, the partner of the
        nearest, a softmax over the partners, or a row of the transport plan between both.
    pseudo_weight : float
        Weight of that term, where there is one.
    pseudo_steps : int
        Sinkhorn iterations of "s-clip".
    keyword_weight : float
        Weight of the partial labels of "s-clip", where a modality knows the keywords of its items.
    transport_weight : float
        Weight of the soft targets from a transport plan between the whole unpaired pools.  0 switches them
        off, except that the objectives named after them then take 2.
    transport_warmup : float
        Fraction of the steps over which that weight rises from 0.
    transport_every : int
        Steps between two plans.
    transport_epsilon : float
        Entropy of the plan, in units of the cosine distance.
    transport_rounds : int
        Rounds of fitting maps to pairs and plan, and planning anew, at each renewal.
    transport_dim, transport_ridge
        Dimensions and ridge (times the mean eigenvalue) of those maps.
    transport_items : int
        Items of each pool in one plan; larger pools are sampled anew for each plan.
    transport_temperature : float
        Temperature of the predictions compared with the plan; 0 takes that of the pairs.
    block_size : int
        Rows handled at once by the losses; memory is proportional to it.  0 leaves the choice to the
        losses.  Results do not depend on it beyond rounding.

    Raises
    ------
    ConfigError
        A value is of the wrong type, out of range or not among the choices.

    Examples
    --------
    >>> LossConfig(sdd_weight=0.0).for_objective("setclip").sdd_weight
    0.0
    >>> LossConfig(temperature=-1.0)
    Traceback (most recent call last):
    protclip.errors.ConfigError: temperature: out of range; got -1.0, expected a number > 0
    """

    mmd_weight: float = option(1.0, low=0)
    sdd_weight: float = option(0.1, low=0)
    clip_weight: float = option(1.0, low=0)
    ssl_weight: float = option(0.05, low=0)
    cs_weight: float = option(0.0, low=0)
    contrast: Contrast = option("softmax")
    temperature: float = option(0.3, low=0, above=True)
    learn_temperature: bool = option(True)
    max_scale: float = option(100.0, low=0, above=True)
    negatives: Negatives = option("paired")
    ssl_temperature: float = option(0.3, low=0, above=True)
    mmd_bandwidths: tuple[float, ...] = option((0.25, 0.5, 1.0, 2.0, 4.0), low=0, above=True)
    mmd_bandwidth_mode: BandwidthMode = option("median")
    mmd_degrees: tuple[int, ...] = option((2,), low=0, above=True)
    mmd_slope: float = option(1.0, low=0, above=True)
    mmd_offset: float = option(1.0, low=0)
    mmd_weights: KernelWeights = option("uniform")
    mmd_estimator: Estimator = option("biased")
    sdd_relative_distance: bool = option(True)
    sdd_divergence: Divergence = option("kl")
    sdd_self_term: bool = option(True)
    sdd_reduce: Reduction = option("mean")
    sdd_bandwidth: float = option(0.5, low=0, above=True)
    sdd_constant: float = option(1.0, low=0, above=True)
    sdd_min_variance: float = option(1e-6, low=0, above=True)
    sdd_rescale: bool = option(False)
    sdd_rescale_max: float = option(1e3, low=0, above=True)
    sdd_queue: int = option(0, low=0)
    cs_bandwidth: float = option(1.0, low=0, above=True)
    pseudo_labels: PseudoLabels = option("none")
    pseudo_weight: float = option(0.5, low=0)
    pseudo_steps: int = option(10, low=1)
    keyword_weight: float = option(0.5, low=0)
    transport_weight: float = option(0.0, low=0)
    transport_warmup: float = option(0.2, low=0, high=1)
    transport_every: int = option(20, low=1)
    transport_epsilon: float = option(0.1, low=0, above=True)
    transport_rounds: int = option(3, low=1)
    transport_dim: int = option(64, low=1)
    transport_ridge: float = option(3.0, low=0, above=True)
    transport_items: int = option(2048, low=2)
    transport_temperature: float = option(0.0, low=0)
    block_size: int = option(0, low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mmd_weight and not self.mmd_bandwidths and not self.mmd_degrees:
            raise ConfigError(
                "no kernel is left",
                where="mmd_bandwidths, mmd_degrees",
                got="two empty lists",
                expected="at least one entry",
                hint="Set mmd_weight to 0 to train without the kernel distance.",
            )
        if self.temperature * self.max_scale < 1 - 1e-9:
            raise ConfigError(
                "lower than the limit of the logit scale allows",
                where="temperature",
                got=f"{self.temperature:g}",
                expected=f">= 1 / max_scale = {1 / self.max_scale:g}",
            )

    def for_objective(self, objective: str) -> LossConfig:
        """The same options with the terms that the named objective does not have switched off.

        Parameters
        ----------
        objective : str
            ``setclip`` keeps every term that is switched on; ``clip`` (pairs only) and ``clip-all`` (every
            row paired, the ceiling) keep the supervised contrastive term, to which ``hard-pl``,
            ``soft-pl`` and ``s-clip`` add pseudo-labels and ``transport`` the targets of the plan.
            ``setclip+s-clip`` and ``setclip+transport`` add these to every other term.  Which rows
            count as paired is the sampler's affair.

        Raises
        ------
        ConfigError
            The name is unknown.

        Examples
        --------
        >>> config = LossConfig().for_objective("clip")
        >>> config.clip_weight, config.mmd_weight, config.sdd_weight, config.ssl_weight
        (1.0, 0.0, 0.0, 0.0)
        >>> LossConfig().for_objective("setclip+s-clip").pseudo_labels
        's-clip'
        """
        check_choice("objective", objective, get_args(ObjectiveName))
        kept, _, added = objective.rpartition("+")
        if objective == "setclip":
            return self
        of_setclip = ("mmd_weight", "sdd_weight", "ssl_weight", "cs_weight")
        terms: dict[str, Any] = {} if kept else dict.fromkeys(of_setclip, 0.0)
        if not kept or added in _PSEUDO_LABELS:
            terms["pseudo_labels"] = _PSEUDO_LABELS.get(added, "none")
        if not kept or added == "transport":
            terms["transport_weight"] = (self.transport_weight or 2.0) if added == "transport" else 0.0
        return replace(self, **terms)


_PSEUDO_LABELS: dict[str, PseudoLabels] = {"hard-pl": "hard", "soft-pl": "soft", "s-clip": "s-clip"}
