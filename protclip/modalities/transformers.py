"""Networks of the transformers library as towers: from a local folder, the hub, or from scratch."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import nn

from protclip.errors import ConfigError, DownloadError, ProtclipError, WeightsError
from protclip.modalities.base import Item, Modality, call_with_options
from protclip.modalities.sequence.esm_checkpoint import file_sha256
from protclip.modalities.sequence.esm_weights import Provenance, remote_size

if TYPE_CHECKING:
    from typing_extensions import Self

Init = Literal["auto", "pretrained", "random"]
Tune = Literal["auto", "frozen", "full"]

HUB = "https://huggingface.co/{name}/resolve/main/config.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
SMALL_FILES = ("*.json", "vocab.txt", "merges.txt")
HINT = "Install it with: pip install 'protclip[image-text]'"


@dataclass(frozen=True)
class TowerSize:
    """A tower that can be asked for by a short name.

    Attributes
    ----------
    hub : str
        Name of its published weights on the hub; empty for one that is trained from scratch.
    network : dict
        Architecture for random weights: ``model_type`` and entries of its transformers configuration.
    """

    hub: str = ""
    network: dict[str, Any] = field(default_factory=dict)


def transformers() -> Any:
    """The transformers library.

    Raises
    ------
    ProtclipError
        If it is not installed.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # loader workers are the parallelism here
    try:
        import transformers as library  # lazy: takes seconds, and only some towers need it
    except ImportError as error:
        raise ProtclipError("this tower needs transformers, which is not installed", hint=HINT) from error
    quiet: Any = library.utils.logging
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    return library


def build_network(network: Mapping[str, Any], seed: int = 0) -> nn.Module:
    """A network with random weights from ``model_type`` and further entries of its configuration.

    Raises
    ------
    ConfigError
        If transformers knows no such architecture.
    """
    library = transformers()
    entries = dict(network)
    try:
        config = library.AutoConfig.for_model(entries.pop("model_type"), **entries)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net: nn.Module = library.AutoModel.from_config(config)
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError("no such network", got=repr(dict(network)), hint=str(error)) from error
    return _without_pooler(net)


def network_text(net: Any) -> str:
    """Architecture of a network as JSON text, from which :func:`network_from_text` builds it again."""
    entries = {key: value for key, value in net.config.to_dict().items() if value is not None}
    for key in ("transformers_version", "_name_or_path", "architectures", "id2label", "label2id", "dtype"):
        entries.pop(key, None)
    return json.dumps(entries, sort_keys=True)


def network_from_text(text: str) -> nn.Module:
    """Inverse of :func:`network_text`, up to the weights."""
    return build_network(json.loads(text))


def initial_network(
    name: str, sizes: Mapping[str, TowerSize], *, init: Init, weights: str, seed: int, fallback: str
) -> tuple[nn.Module | None, Provenance]:
    """A pretrained network, or None where one from scratch is to be built, and where it is from.

    Parameters
    ----------
    name : str
        Short name in ``sizes``, a local folder, or a name on the hub.
    sizes : mapping
        Towers by short name.
    init : {"auto", "pretrained", "random"}
        ``pretrained`` insists on weights; ``random`` never looks for them; ``auto`` takes them where they
        can be had and otherwise the ``fallback`` size from scratch, marked so.
    weights : str
        Local folder with the weights of ``name``; empty to look on the hub (and in its cache).
    seed : int
        Of random weights; only named here.
    fallback : str
        Short name for want of weights.

    Returns
    -------
    Module or None, Provenance
        ``provenance.name`` is the size that it came to.

    Raises
    ------
    WeightsError
        If a given folder is no model, or ``pretrained`` finds none.
    ConfigError
        If the name or ``init`` is unknown.
    """
    if init not in ("auto", "pretrained", "random"):
        raise ConfigError(
            "unknown choice", where="init", got=repr(init), expected="auto, pretrained or random"
        )
    folder = weights or (name if Path(name).expanduser().is_dir() else "")
    hub = sizes[name].hub if name in sizes else name if name.count("/") == 1 else ""
    if not folder and name not in sizes and not hub:
        raise ConfigError(
            "unknown tower", where="encoder", got=repr(name), expected=f"{', '.join(sizes)}, or a folder"
        )
    if init == "random" or (not folder and not hub):
        if name not in sizes:
            raise ConfigError(
                "only the named sizes can start from random weights",
                where="encoder",
                got=repr(name),
                expected=", ".join(sizes),
            )
        if folder:
            raise ConfigError("weights contradict init=random", hint="Leave one of them out")
        if init == "pretrained":
            raise WeightsError("there are no published weights of this size", where="encoder", got=name)
        return None, Provenance(
            "random", name, f"seed {seed}", message=f"the {name} tower is trained from scratch, as asked for"
        )
    if folder:
        return _from_folder(Path(folder).expanduser(), name)
    try:
        return _from_hub(hub, name)
    except DownloadError as error:
        how = (
            f"To use them, fetch the repository {hub} from the hub on a machine with network "
            "(`hf download NAME --local-dir FOLDER`) and give weights=FOLDER"
        )
        if init == "pretrained":
            raise WeightsError(
                f"no weights of {hub} on disk, and they could not be fetched ({error.message})", hint=how
            ) from error
        return None, Provenance(
            "random",
            fallback,
            f"seed {seed}",
            message=f"No pretrained {name} weights on disk and none could be fetched ({error.message}): "
            f"training the {fallback} tower FROM SCRATCH instead. Expect weaker features. {how}",
            fallback=True,
        )


def settle_tune(tune: Tune, origin: Provenance) -> Literal["frozen", "full"]:
    """``auto`` freezes pretrained weights; what starts from random weights by need is trained in full.

    Raises
    ------
    ConfigError
        If the choice is unknown.
    """
    if tune not in ("auto", "frozen", "full"):
        raise ConfigError("unknown choice", where="tune", got=repr(tune), expected="auto, frozen or full")
    if tune == "auto" or origin.fallback:
        return "frozen" if origin.kind == "pretrained" else "full"
    return tune


def tower_facts(origin: Provenance, tune: str) -> dict[str, Any]:
    """What the model card says of a tower's weights."""
    facts = {
        "size": origin.name,
        "pretrained": origin.kind == "pretrained",
        "starting weights": f"{origin.kind} ({origin.source})",
        "weights file": origin.path,
        "weights SHA-256": origin.sha256,
        "note": origin.message if origin.fallback else "",
        "tune": tune,
    }
    return {key: value for key, value in facts.items() if value != ""}


class NetworkModality(Modality[Item]):
    """What all modalities share whose tower is a network of the transformers library.

    Attributes
    ----------
    provenance : Provenance
        Where the starting weights are from.
    tune : {"frozen", "full"}
    """

    provenance: Provenance
    tune: Literal["frozen", "full"]

    create: ClassVar[Callable[..., Any]]

    def adopt(self, net: nn.Module, provenance: Provenance, tune: Literal["frozen", "full"]) -> None:
        """Note where a network is from and how it is trained; a frozen one gets no gradient."""
        self.provenance, self.tune = provenance, tune
        self.frozen = tune == "frozen"
        self.pretrained = provenance.kind == "pretrained"
        if self.frozen:
            net.requires_grad_(False)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], *, source: Any = None, seed: int = 0) -> Self:
        """Options of :meth:`create`."""
        side: Self = call_with_options(cls.create, options, where=f"options of {cls.name}", seed=seed)
        return side

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Rebuild from :meth:`config`; the weights have random values until they are loaded."""
        options = dict(config)
        net = network_from_text(options.pop("network"))
        make: Callable[..., Self] = cls
        return make(net, Provenance.from_dict(options.pop("provenance")), **options)

    def resolved(self) -> dict[str, Any]:
        """Network, start and tuning: options with which the same tower is made again."""
        return {"encoder": self.provenance.name, "init": self.provenance.kind, "tune": self.tune}


def _from_folder(folder: Path, name: str) -> tuple[nn.Module, Provenance]:
    files = [folder / file for file in WEIGHT_FILES if (folder / file).is_file()]
    if not files or not (folder / "config.json").is_file():
        raise WeightsError(
            "no weights of the transformers library here",
            where=str(folder),
            got="no such folder" if not folder.is_dir() else "other files",
            expected=f"config.json and {' or '.join(WEIGHT_FILES)}",
        )
    net = _pretrained(folder)
    sha256 = file_sha256(files[0])
    message = f"{name} with pretrained weights from {folder} (SHA-256 {sha256[:12]}...)"
    return net, Provenance("pretrained", name, "local folder", str(folder), sha256, message)


def _from_hub(hub: str, name: str) -> tuple[nn.Module, Provenance]:
    """From the hub's cache on this machine, else from the hub itself.

    Raises
    ------
    DownloadError
        If neither has it.
    """
    transformers()
    from huggingface_hub import snapshot_download  # comes with transformers

    source = "the hub's cache"
    try:
        folder = Path(snapshot_download(hub, local_files_only=True))
    except Exception:  # whatever the library raises where it is not there
        folder = Path()
    if not any((folder / file).is_file() for file in WEIGHT_FILES):
        remote_size(HUB.format(name=hub))  # tells an unreachable hub within seconds
        source = "the hub"
        try:
            for weights in WEIGHT_FILES:
                folder = Path(snapshot_download(hub, allow_patterns=[*SMALL_FILES, weights]))
                if (folder / weights).is_file():
                    break
        except Exception as error:
            raise DownloadError(f"the hub does not give it ({_first_line(error)})", where=hub) from error
    net, found = _from_folder(folder, name)
    message = f"{name} with pretrained weights {hub} from {source} (SHA-256 {found.sha256[:12]}...)"
    return net, replace(found, source=f"{hub}, {source}", message=message)


def _pretrained(folder: Path) -> nn.Module:
    library = transformers()
    try:
        net: nn.Module = library.AutoModel.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the library raises what its many parts raise
        raise WeightsError(f"cannot be loaded ({_first_line(error)})", where=str(folder)) from error
    return _without_pooler(net.float())


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _without_pooler(net: Any) -> nn.Module:
    """Without the dense layer on top that pretraining left behind; nothing here uses it."""
    pooler = getattr(net, "pooler", None)
    if isinstance(pooler, nn.Module) and any(True for _ in pooler.parameters()):
        net.pooler = None
    module: nn.Module = net
    return module
