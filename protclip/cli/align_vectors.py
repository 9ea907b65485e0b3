"""``protclip align-vectors``: one space for two files of ready embeddings."""

from __future__ import annotations

from pathlib import Path

import typer

from protclip.errors import ConfigError


def align_vectors(
    left: Path = typer.Argument(..., help="HDF5 embeddings of one side."),
    right: Path = typer.Argument(..., help="HDF5 embeddings of the other side."),
    pairs: Path = typer.Option(..., help="Two columns of ids (left, right), tab between; header optional."),
    out: Path = typer.Option(..., "-o", "--out", help="Model folder to write."),
    method: str = typer.Option(
        "transport",
        help="transport: pairs and unpaired rows; cca: pairs alone; rivals: mnn, sotalign. For sue, asif and "
        "kcca, whose maps are not linear, see the documentation.",
    ),
    dim: int = typer.Option(64, help="Shared dimensions, at most."),
    ridge: float = typer.Option(3.0, help="Regularisation, in mean eigenvalues of the covariance."),
    epsilon: float = typer.Option(
        None, help="Entropy of the transport plan, in units of its cost [default: 1; cosine: 0.1]."
    ),
    weight: float = typer.Option(1.0, help="Mass of all soft pairs against that of all given pairs."),
    rounds: int = typer.Option(8, help="Plans and fits in turn."),
    unbalanced: float = typer.Option(
        None,
        help="Price of leaving an item unmatched, for pools that only partly overlap [default: none may be].",
    ),
    select: bool = typer.Option(False, "--select", help="Choose ridge, dim and weight on held-out pairs."),
    plan: str = typer.Option("likelihood", help="Cost of the plan: likelihood (of a match) or cosine."),
    components: int = typer.Option(400, help="Principal components of each side that are used, at most."),
    prior: Path | None = typer.Option(
        None,
        help="Two columns (id, number): side information that partners share, such as log length. Named in "
        "the results.",
    ),
    prior_width: float = typer.Option(0.05, help="Difference of these numbers that partners may have."),
    folds: int = typer.Option(5, help="Folds of held-out pairs for the final scores; 0 leaves them out."),
    standardise: bool = typer.Option(True, help="Scale each feature to unit variance first."),
    left_name: str = typer.Option("left", help="Name of the left side in the model."),
    right_name: str = typer.Option("right", help="Name of the right side in the model."),
    max_items: int = typer.Option(
        20_000, help="Items of each pool in one plan; each round samples larger pools anew."
    ),
    seed: int = typer.Option(0, help="Seed of the folds and of samples of large pools."),
    device: str = typer.Option(
        "cpu", help="Where the transport plan is computed: auto, cpu, cuda or cuda:N."
    ),
) -> None:
    """Align two sets of embeddings from a handful of pairs; the maps become a model folder."""
    from protclip.alignment.methods import LINEAR, METHODS, make_alignment
    from protclip.cli.display import TerminalDisplay
    from protclip.inference.align_files import align_files
    from protclip.inference.encode import pick_device

    if method in METHODS and method not in LINEAR:
        raise ConfigError(
            "its maps are not linear, so they cannot be the heads of a model",
            where=f"--method {method}",
            expected=", ".join(LINEAR),
            hint="Use protclip.alignment.methods.make_alignment on arrays",
        )
    shared = {"dim": dim, "ridge": ridge, "components": components, "standardise": standardise}
    transport = {
        "epsilon": epsilon,
        "plan": plan,
        "prior_width": prior_width,
        "folds": max(folds, 2),
        "weight": weight,
        "rounds": rounds,
        "unbalanced": unbalanced,
        "max_items": max_items,
        "select": select,
        "seed": seed,
        "device": str(pick_device(device)),
    }
    if method in ("mnn", "sotalign"):
        if select or prior is not None:
            raise ConfigError("only transport and cca take these", where="--select, --prior", got=method)
        alignment = make_alignment(method, **shared)
    else:
        alignment = make_alignment(method, **shared, **transport)
    display = TerminalDisplay()
    report = align_files(
        left,
        right,
        pairs,
        out,
        alignment,
        left_name=left_name,
        right_name=right_name,
        prior=prior,
        folds=folds,
        say=display.say,
    )
    for line in report.lines():
        typer.echo(line)
