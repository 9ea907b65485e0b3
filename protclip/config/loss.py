"""Options of the training objective as one plain dataclass, and the folder of what protclip keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from protclip.config.checks import check_choice, check_number, check_numbers, check_switch
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
class LossConfig:
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
    protclip.errors.ConfigError: temperature: not a usable value; got -1.0, expected a number > 0
    """

    mmd_weight: float = 1.0
    sdd_weight: float = 0.1
    clip_weight: float = 1.0
    ssl_weight: float = 0.05
    cs_weight: float = 0.0
    contrast: Contrast = "softmax"
    temperature: float = 0.3
    learn_temperature: bool = True
    max_scale: float = 100.0
    negatives: Negatives = "paired"
    ssl_temperature: float = 0.3
    mmd_bandwidths: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    mmd_bandwidth_mode: BandwidthMode = "median"
    mmd_degrees: tuple[int, ...] = (2,)
    mmd_slope: float = 1.0
    mmd_offset: float = 1.0
    mmd_weights: KernelWeights = "uniform"
    mmd_estimator: Estimator = "biased"
    sdd_relative_distance: bool = True
    sdd_divergence: Divergence = "kl"
    sdd_self_term: bool = True
    sdd_reduce: Reduction = "mean"
    sdd_bandwidth: float = 0.5
    sdd_constant: float = 1.0
    sdd_min_variance: float = 1e-6
    sdd_rescale: bool = False
    sdd_rescale_max: float = 1e3
    sdd_queue: int = 0
    cs_bandwidth: float = 1.0
    pseudo_labels: PseudoLabels = "none"
    pseudo_weight: float = 0.5
    pseudo_steps: int = 10
    keyword_weight: float = 0.5
    transport_weight: float = 0.0
    transport_warmup: float = 0.2
    transport_every: int = 20
    transport_epsilon: float = 0.1
    transport_rounds: int = 3
    transport_dim: int = 64
    transport_ridge: float = 3.0
    transport_items: int = 2048
    transport_temperature: float = 0.0
    block_size: int = 0

    def __post_init__(self) -> None:
        for name in (
            *("mmd_weight", "sdd_weight", "clip_weight", "ssl_weight", "mmd_offset", "pseudo_weight"),
            *("keyword_weight", "transport_weight", "transport_temperature", "cs_weight"),
        ):
            check_number(name, getattr(self, name))
        for name in (
            *("temperature", "max_scale", "ssl_temperature", "mmd_slope", "sdd_bandwidth"),
            *("sdd_constant", "sdd_min_variance", "sdd_rescale_max", "cs_bandwidth"),
            *("transport_epsilon", "transport_ridge"),
        ):
            check_number(name, getattr(self, name), above=True)
        check_number("transport_warmup", self.transport_warmup, high=1.0)
        for name in ("block_size", "sdd_queue"):
            check_number(name, getattr(self, name), integer=True)
        for name in ("pseudo_steps", "transport_every", "transport_rounds", "transport_dim"):
            check_number(name, getattr(self, name), low=1, integer=True)
        check_number("transport_items", self.transport_items, low=2, integer=True)
        for name in ("learn_temperature", "sdd_relative_distance", "sdd_self_term", "sdd_rescale"):
            check_switch(name, getattr(self, name))
        for name, words in (
            ("contrast", Contrast),
            ("negatives", Negatives),
            ("mmd_bandwidth_mode", BandwidthMode),
            ("mmd_weights", KernelWeights),
            ("mmd_estimator", Estimator),
            ("sdd_divergence", Divergence),
            ("sdd_reduce", Reduction),
            ("pseudo_labels", PseudoLabels),
        ):
            check_choice(name, getattr(self, name), get_args(words))
        check_numbers("mmd_bandwidths", self.mmd_bandwidths)
        check_numbers("mmd_degrees", self.mmd_degrees, integer=True)
        # TOML has lists only; a frozen, comparable object wants tuples.
        object.__setattr__(self, "mmd_bandwidths", tuple(self.mmd_bandwidths))
        object.__setattr__(self, "mmd_degrees", tuple(self.mmd_degrees))
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for TOML."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LossConfig:
        """Build from plain values, as read from TOML; what is missing keeps its default.

        Raises
        ------
        ConfigError
            A name is unknown or a value is unusable.

        Examples
        --------
        >>> LossConfig.from_dict(LossConfig(ssl_weight=0.2).to_dict()).ssl_weight
        0.2
        """
        names = [field.name for field in fields(cls)]
        for key in values:
            check_choice("loss option", key, names)
        return cls(**values)


_PSEUDO_LABELS: dict[str, PseudoLabels] = {"hard-pl": "hard", "soft-pl": "soft", "s-clip": "s-clip"}
