"""evaluate, score."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from prefdata.cli.screen import errors, output, trainer_errors

Data = Annotated[Path, typer.Option(help="An exported Parquet file.")]
Model = Annotated[str, typer.Option(help="A folder, a hub id or a known name: a policy, or a reward model.")]
MaxLength = Annotated[int, typer.Option(min=2, help="Tokens of a prompt and its longest response.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
Template = Annotated[
    Literal["auto", "none"], typer.Option(help="none: messages are joined as they are, for a base model.")
]


def evaluate(
    data: Data,
    model: Model,
    out: Annotated[Path | None, typer.Option(help="A folder for evaluation.json and annotations.parquet.")] = None,
    reference: Annotated[
        str | None, typer.Option(help="What the policy is held against; `none`; else what it was trained from.")
    ] = None,
    dataset: Annotated[Path | None, typer.Option(help="The export's dataset: it gets the annotations.")] = None,
    split: Annotated[Literal["valid", "train", "all"], typer.Option(help="Which rows.")] = "valid",
    beta: Annotated[float, typer.Option(min=0, help="Scales a policy's implicit reward.")] = 0.1,
    by: Annotated[list[str] | None, typer.Option("--by", help="aspect, annotator, kind.")] = None,
    max_length: MaxLength = 2048,
    device: Device = "auto",
    template: Template = "auto",
) -> None:
    """Say what a policy or a reward model is worth on preferences: accuracies, ranking, best-of-n, calibration.

    Example: `prefdata evaluate --data exports/lists.parquet --model model --dataset runs/mine`
    """
    from prefdata.errors import PrefdataError
    from prefdata.evaluate import Settings
    from prefdata.evaluate import evaluate as run_evaluation
    from prefdata.evaluate.run import ATTRIBUTES
    from prefdata.train.screen import visible

    attributes = tuple(by) if by else ("aspect", "annotator")
    unknown = [name for name in attributes if name not in ATTRIBUTES]
    if unknown:
        raise PrefdataError(f"--by {unknown[0]}: accuracies are taken apart by {', '.join(ATTRIBUTES)}")
    settings = Settings(split=split, beta=beta, max_length=max_length, device=device, template=template)
    with trainer_errors():
        found = run_evaluation(
            data,
            model,
            out=out,
            reference=reference,
            dataset=dataset,
            by=attributes,
            settings=settings,
            say=lambda line: errors.print(escape(visible(line))),
        )
    for line in _lines(found.measures):
        output.print(escape(visible(line)))
    if found.new_rows is not None:
        output.print(escape(f"{dataset}: {found.new_rows} annotations by {found.scored.annotator}"))
    if out is not None:
        output.print(escape(str(out / "evaluation.json")))


def score(
    data: Data,
    model: Model,
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    max_length: MaxLength = 2048,
    device: Device = "auto",
    template: Template = "auto",
) -> None:
    """Write a model's numbers for every response of an export: of each token of a policy, or a model's rewards.

    What a policy says is a file that `prefdata train --set reference=FILE` takes for its reference.

    Example: `prefdata score --data exports/lists.parquet --model smollm2-135m-instruct --out reference.parquet`
    """
    from prefdata.evaluate.tokens import score_file
    from prefdata.train.screen import visible

    with trainer_errors():
        rows = score_file(
            data,
            model,
            out,
            max_length=max_length,
            device=device,
            template=template,
            say=lambda line: errors.print(escape(visible(line))),
        )
    output.print(escape(f"{out}: {rows} responses"))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['model']}: {found['edges']} pairs of {found['lists']} lists, {found['groups']} prompts"
    for reason, count in found["left_out"].items():
        yield f"  left out: {count} x {reason}"
    if not found["edges"]:
        yield "  no response is better than another there, so no accuracy: evaluate on pairs or lists"
    names = {"reward": "reward", "logprob": "log-probability", "mean_logprob": "log-probability a token"}
    for name, of in found["accuracy"].items():
        for attribute, said in [
            ("", {"": of["all"]}),
            *((key, of[key]) for key in of if key != "all" and len(of[key]) > 1),
        ]:
            for value, one in said.items():
                if one is not None:
                    where = f"  {attribute} {value}" if attribute else ""
                    yield f"accuracy of the {names[name]}{where}: {_share(one)}"
    if found["ranking"] and "ideal" in found["ranking"]:
        one = found["ranking"]
        ideal = ", ".join(f"{value:.3f} (beta {beta})" for beta, value in one["ideal"].items())
        yield f"ranking accuracy: policy {one['policy']:.3f}, reference {one['reference']:.3f}, ideal {ideal}"
        if one["share_simulated"]:
            yield (
                f"  the ideal takes a vote share of {one['simulated_share']} for the {one['share_simulated']:.0%} of "
                "pairs that state none"
            )
    if found["order"]:
        tau, gain = found["order"]["kendall_tau"], found["order"]["ndcg"]
        yield f"order of {found['order']['lists']} lists: Kendall tau {_number(tau)}, NDCG {_number(gain)}"
    for one in found["best_of_n"] or ():
        yield (
            f"best of {one['n']}: {one['chosen']:.3f} (random {one['random']:.3f}, best {one['best']:.3f}; "
            f"{one['lists']} lists)"
        )
    if found["calibration"]:
        one = found["calibration"]
        yield f"calibration: error {one['error']:.3f}, Brier {one['brier']:.3f}, log loss {one['log_loss']:.3f}"


def _share(one: dict[str, Any]) -> str:
    interval = "" if one["low"] is None else f" [{one['low']:.2f}, {one['high']:.2f}]"
    ties = f", {one['ties']} ties" if one["ties"] else ""
    return f"{one['value']:.3f}{interval} ({one['edges']} pairs of {one['groups']} prompts{ties})"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
