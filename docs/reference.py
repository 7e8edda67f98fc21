"""Makes the reference pages from the code: `python docs/reference.py steps` prints one, `--write` writes them all.

Names, types and defaults are read from the code, where each is written once; `--check` names pages that are out
of date.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pyarrow as pa
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

FOLDER = Path(__file__).resolve().parent
MADE = "<!-- Made by `python docs/reference.py --write`; change the code, not this page. -->\n"

_PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "anything"}
_ARROW = {
    pa.string(): "text",
    pa.float64(): "float64",
    pa.float32(): "float32",
    pa.int32(): "int32",
    pa.int64(): "int64",
    pa.bool_(): "bool",
}

_STEPS = """# Steps

How a pipeline is written stands in [pipelines.md](pipelines.md); engines in [engines.md](engines.md).

Every step has these keys besides its own:
"""
_ENGINES = """# Engines

An engine is a name under `engines:` with a `kind` and that kind's keys. How to add a kind stands in
[extending.md](extending.md#an-engine).

Every kind has these keys:
"""
_CARDS = """# Cards

What to judge and how, as a YAML file: a new judge needs no code. How to write one stands in
[extending.md](extending.md#a-card).
"""
_TABLES = """# Tables

A dataset is these tables. A part on disk holds only the columns that some row of it fills; a reader sees them all.
Which rows are live, and in which order the rules apply, stands in [architecture.md](architecture.md).
"""
_FORMATS_IN = """# Formats

## In

Read by `prefdata import FORMAT SOURCE DATASET`, which all pipelines of the dataset then see, and by the step `ingest`,
whose rows belong to its pipeline. `prefdata import prefdata SOURCE DATASET` takes another dataset's live prompts,
responses and judgements; no consensus and no preferences, which are computed anew.

Rows that cannot be read are left out, counted, and kept in the dataset's `quarantine/`
([failures.md](failures.md#other-peoples-files)); `--strict` (`strict: true`) makes the first one an error.
"""
_FORMATS_OUT = """## Out

Written by `prefdata export DATASET --format FORMAT --out FILE`, and by the step `export` below the dataset's
`exports/`. A Parquet file's footer names its format (`lists/1`), the commit, and what was left out and why. The folder
gets a dataset card, and loads with `datasets.load_dataset(folder)`. A column that no row fills may be left out.
"""
_FORMATS_LABELS = """## Out, for labelling tools

These take the live prompts, responses and annotations, and no preferences. What people said becomes labels in the tool,
what others said predictions or suggestions. A consensus and a split are left out: they are computed anew.

Whatever the tool has no place for (models, ids, conditions, seconds, names of annotators) rides along with each task
under the key `prefdata`: of Label Studio in `data`, of Argilla in `metadata`. On the way back what the tool shows is
what counts: a row that rode along is taken while the texts and its answer are unchanged, a changed answer is a new one,
and one that is gone is counted. So an export that is imported again adds nothing, and new labels find their responses.
Whoever may look at the raw data of a task in the tool sees there who wrote what, and what others said: to label blind,
export before there are labels, or use the labelling page.
"""
_TRAINING = """# Training

`prefdata train --data FILE --model MODEL --loss LOSS --out DIR`, or `prefdata train FILE.yaml` with any of the options;
`--set key=value` sets one. MODEL is a folder, a hub id, or a name that `prefdata models fetch` knows.

`python -m prefdata.train` takes the same flags, from an installation or from the source tree (`PYTHONPATH=SOURCE`). It
needs torch, transformers, numpy and pyarrow, and peft for LoRA. There a file of options is JSON, and a model of a short
name is given as its folder.

## What is read

A Parquet, Arrow or JSON-lines file, or a folder of some. Its columns say what it is:

| what | columns | losses over |
|---|---|---|
| `lists` | `prompt`, `responses`, `scores`, `ranks`, ... ([formats.md](formats.md)) | lists, pairs, responses |
| `trl-pairs` (`-conversational`) | `chosen`, `rejected`, maybe `prompt` | pairs, responses, lists of two |
| `unpaired` (`-conversational`) | `prompt`, `completion`, `label` | responses |
| completions | `prompt` and `completion`, or `messages` | `sft` |

- A folder holds one dataset, as the hub has it (`data/train-00000-of-00001.parquet`, `configs` in its `README.md`)
  or as `save_to_disk` of the library datasets wrote it; the library itself is not needed.
- **Held out** are rows whose `split` is `valid`, and files of a split `validation`, `test` or `eval`. They are not
  trained on; what the model makes of them is measured before and after.
- Messages go through the model's chat template; texts are used as they are. A prompt that the template writes otherwise
  once an answer follows is refused. Each response ends in one end-of-turn token, which is trained.
- What cannot be read is a sentence with file, row and column. What is left out is counted by reason, on the screen and
  in the manifest. Images, sounds and stepwise labels are refused.

## What is written

`DIR`, when all is done; until then it is called `DIR.partial`. An earlier run's folder of that name is replaced,
anything else is left alone and refused.

| file | what it is |
|---|---|
| `model.safetensors`, `config.json`, the tokenizer's files | a model for transformers, vLLM and TRL |
| `metrics.jsonl` | one row for each step, see below |
| `manifest.json` | all options, the data's SHA-256, counts, versions, held-out results |
| `README.md` | a model card made of the manifest |
| `reference.parquet` | the reference's log-probabilities, for losses that have one |

Adapters are merged into the model. A reward model is a sequence classifier, with one output for each attribute.

In `metrics.jsonl` a response's *value* is `lp - ref`; without a reference it is `lp` for each token, and of a reward
model its output. All of a row is of that step's own lists, before its update. What does not apply is null.

"""
_METRICS = {
    "step": "From 0.",
    "loss": "The sum of `terms`.",
    "terms": "Each term of the loss: `loss`, and `sft` where there is one.",
    "lr": "Learning rate of this step.",
    "grad_norm": "Norm of the gradient before it is scaled down.",
    "accuracy": "Share of pairs whose better response has the higher value; ties count one half.",
    "margin": "Mean over pairs of the better response's value less the worse's.",
    "auc": "Of single responses: how often a wanted one has a higher value than an unwanted one.",
    "chosen_change": "Mean of `lp - ref` of the better (or wanted) responses.",
    "rejected_change": "Of the worse (or unwanted) ones.",
    "displaced": "Share of the better (or wanted) responses that are less likely than under the reference.",
    "rank_logprobs": "Mean of `lp - ref` by rank, 1 being the best.",
    "kendall_tau": "Mean over lists of three and more: how well values and ranks agree, -1 to 1.",
    "ndcg": "Likewise, where the top counts most; at most 1.",
    "kl": "How far the policy is from the reference for each token, estimated on the data's tokens.",
    "lists": "Lists of the step.",
    "tokens": "Tokens in its packs, where a shared prompt stands once.",
    "useful_tokens": "What the same responses would be one by one, each with its prompt.",
    "predicted": "Tokens whose log-probability was computed.",
    "computed": "Tokens that went through the model, padding among them.",
    "packs": "Passes through the model.",
    "seconds": "Of the step.",
    "tokens_per_s": "`tokens` by seconds.",
    "useful_tokens_per_s": "`useful_tokens` by seconds.",
    "mfu": "Share of the device's peak arithmetic that `tokens` need: padding and what is computed twice count as "
    "nothing. Null where the peak is not known.",
    "padding": "Share of `computed` that is padding.",
    "peak_memory": "Bytes: of the GPU in this step; on a CPU of the process so far.",
    "held_out": "Only every `eval_every` steps: what the model makes of the held-out lists.",
}
_RUNNING = """
Where the better responses become much less likely while the loss falls, the run says so once, and what helps.

## Going on after an interruption

Ctrl-C, `kill -9`, a full disk, a wall-time limit: give the same command again. It goes on from the last checkpoint in
`DIR.partial` (there is one every `save_every` steps), with the batches and losses of a run that was never interrupted.
A checkpoint of other data, weights or options is refused, in a sentence: `--set resume=never` removes what is there and
starts over. `--set resume=PATH` goes on from a checkpoint elsewhere.

## The reference

The reference is the policy as it starts, unless `reference` names another model. Its log-probabilities are computed
once, before the first step, and kept for each token in `DIR/reference.parquet`; with LoRA that is the same model with
its adapters off. So the first loss is exact: log 2 for DPO.

`--reference FILE` takes such a file of an earlier run, of another loss too: only what is missing is computed. A row is
found by its tokens, the weights, the tokenizer, the precision and the attention; of another model nothing is found.
`prefdata score` writes the same file without training. It computes in fp32, so a run in bf16 finds nothing in it.

## Memory and packs

All responses to a prompt go through the model together, and the prompt once. A *pack* is as many lists as fit in
`pack_tokens`; a step is as many packs as its `batch_size` lists need, and its gradient is the same in any packs. Where
memory is short:

1. lower `pack_tokens`. A list longer than that has a pass of its own, so long lists set the least that is needed;
2. lower `max_length`: longer lists are left out, or cut with `overlong: truncate`;
3. `gradient_checkpointing: true`: less memory, about a third more time;
4. `quantize: 4bit` with LoRA on a GPU, or several processes with `distributed: fsdp2`.

The vocabulary's logits are never held for a whole pack.

## Several processes

```
torchrun --nproc-per-node 2 -m prefdata.train --data FILE --model MODEL --loss dpo --out DIR
accelerate launch -m prefdata.train --data FILE --model MODEL --loss dpo --out DIR       # on all GPUs
```

The packs of each step are dealt out, and gradients are summed: two processes take the steps that one takes.
`batch_size` counts the lists of all of them. `distributed: ddp` keeps all weights in each process, `fsdp2` splits them.
All of them read the data and the model; only the first says and writes anything.

## What it is worth

```
prefdata evaluate --data exports/lists.parquet --model DIR --dataset runs/mine
```

`prefdata evaluate` measures a policy or a reward model on the held-out rows: accuracy by aspect and annotator, with
intervals; the ranking accuracy beside what an ideal policy would have; order, best-of-n, calibration. A policy's reward
is `beta (lp - ref)`, against what its manifest says that it was trained from; `--reference` names another. `--out`
writes it all as JSON, and every number as Parquet.

With `--dataset` each list's numbers become an annotation, by `policy:NAME@HASH` or `reward:NAME@HASH`, which no
pipeline takes for evidence by itself. So the labels that the model disagrees with are one query
(`prefdata sql runs/mine QUERY`); the responses of a preference stand best first:

```sql
select p.preference_id, a.annotator
from preferences p
join annotations a on list_has_all(a.target_ids, p.response_ids) and a.annotator like 'policy:%'
where list_extract(a.scores, list_position(a.target_ids, p.response_ids[1]))
    < list_extract(a.scores, list_position(a.target_ids, p.response_ids[2]))
```

## Options

"""
_LOSSES = """
## Losses

`prefdata losses` lists them, `prefdata losses show NAME` describes one. In the formulas, `lp` and `ref` are the sums of
a response's log-probabilities under the policy and the reference, its end of turn included, and logarithms are natural.
A loss is computed for each pair, list or response; the weighted mean is taken over all of the step.

Losses over pairs take these options beside their own; losses over lists or over responses alone take `weight`. An
option that cannot act is refused.
"""


def main() -> int:
    """Print a page, write all, or say which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("page", nargs="?", choices=sorted(PAGES), help="print this page")
    choice.add_argument("--write", action="store_true", help="write every page")
    choice.add_argument("--check", action="store_true", help="exit with 1 where a page is out of date")
    asked = parser.parse_args()
    if asked.page:
        print(page(asked.page), end="")
        return 0
    stale = [
        name for name in [*PAGES, *QUOTING] if not _file(name).is_file() or _file(name).read_text("utf-8") != page(name)
    ]
    for name in stale:
        if asked.write:
            _file(name).write_text(page(name), encoding="utf-8")
        print(f"{_file(name).name} {'written' if asked.write else 'is out of date: python docs/reference.py --write'}")
    return 1 if stale and asked.check else 0


def page(name: str) -> str:
    """A page as Markdown."""
    if name in QUOTING:
        return quoting(_file(name).read_text(encoding="utf-8"))
    return MADE + "\n" + "\n".join(PAGES[name]()).strip() + "\n"


def quoting(text: str) -> str:
    """A page with the files that it quotes (`<!-- quote: FILE -->` before a block of code) as they are now."""

    def quoted(found: re.Match[str]) -> str:
        return f"{found[1]}{(FOLDER / found[2]).read_text(encoding='utf-8')}```"

    return re.sub(r"(<!-- quote: (\S+) -->\n\n```\w+\n).*?```", quoted, text, flags=re.DOTALL)


def _file(name: str) -> Path:
    return FOLDER / f"{name}.md"


# Types, defaults and tables


def kind(annotation: Any) -> str:
    """A Python type in words."""
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(inside[0]) + limits(limit for info in inside[1:] for limit in getattr(info, "metadata", [info]))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin in (Union, types.UnionType):
        return " or ".join(kind(part) for part in inside if part is not type(None))
    if origin in (tuple, list):
        if origin is tuple and len(inside) > 1 and inside[1] is not Ellipsis:
            return f"list of {len(inside)}: {kind(inside[0])}"
        each = kind(inside[0])
        return f"list of: {each}" if each.startswith("`") else f"list of {each}"
    if origin in (dict, Mapping):
        return f"mapping of {kind(inside[0])} to {kind(inside[1])}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "mapping of " + ", ".join(annotation.model_fields)
    return getattr(annotation, "__name__", str(annotation))


def limits(metadata: Iterable[Any]) -> str:
    """The bounds that pydantic checks, in words."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    said = [
        f"{word} {getattr(limit, key):g}"
        for limit in metadata
        for key, word in words.items()
        if getattr(limit, key, None) is not None
    ]
    return f" ({', '.join(said)})" if said else ""


def default(value: Any) -> str:
    """A default as YAML has it."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if value is None:
        return ""
    if isinstance(value, tuple):
        value = list(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    shown = text.strip().removesuffix("...").strip()
    return f"`{shown}`"


def default_of(field: FieldInfo) -> str:
    """The default of a pydantic field; `required` where it has none."""
    return "required" if field.is_required() else default(field.get_default(call_default_factory=True))


def rows(header: Iterable[str], body: Iterable[Iterable[str]]) -> Iterator[str]:
    """A Markdown table."""
    names = list(header)
    yield "| " + " | ".join(names) + " |"
    yield "|" + "---|" * len(names)
    for cells in body:
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def field_rows(model: type[BaseModel], leave_out: Iterable[str] = (), said: Mapping[str, str] = {}) -> Iterator[str]:
    """The fields of a pydantic model. `said` describes those that do not describe themselves."""
    body = []
    for name, field in model.model_fields.items():
        if name not in leave_out:
            description = field.description or sentence(said.get(name, ""))
            if not description:
                raise SystemExit(f"{model.__name__}.{name} has no description")
            body.append(
                (
                    f"`{field.alias or name}`",
                    kind(field.annotation) + limits(field.metadata),
                    default_of(field),
                    description,
                )
            )
    yield from rows(("key", "type", "default", "what it is"), body)


def text_of(thing: object) -> str:
    """A docstring's own text, without the sections on arguments and errors."""
    return re.split(r"\n\n(?:Args|Attributes|Returns|Raises):\n", inspect.getdoc(thing) or "")[0].strip()


def listed(thing: object, section: str) -> dict[str, str]:
    """The names and texts that a docstring lists under a heading, for example `Attributes`."""
    found = re.search(rf"\n\n{section}:\n(.*?)(?:\n\n|\Z)", inspect.getdoc(thing) or "", re.DOTALL)
    entries: dict[str, str] = {}
    for line in (found[1] if found else "").splitlines():
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            entries[start[1]] = start[2]
        elif entries:
            entries[next(reversed(entries))] += " " + line.strip()
    return entries


def sentence(text: str) -> str:
    """A text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def paragraphs(text: str) -> Iterator[str]:
    """A text, each paragraph on one line; lists stay lists."""
    for paragraph in text.split("\n\n"):
        if paragraph.lstrip().startswith("- "):
            yield re.sub(r"\n {2}(?=\S)", " ", paragraph)
        else:
            yield " ".join(paragraph.split())
        yield ""


# Pages


def steps() -> Iterator[str]:
    """Every step with its fields."""
    from prefdata.pipeline.registry import STEPS, load_plugins
    from prefdata.pipeline.step import CONSENSUS, Sink, SourceStep, Step

    load_plugins()
    ours = {name: step for name, step in STEPS.items() if step.__module__.startswith("prefdata.")}
    yield _STEPS
    yield from field_rows(Step)
    yield ""
    for name in sorted(ours):
        step = ours[name]
        yield from (f"## {name}", "")
        yield from paragraphs(text_of(step))
        reads = ", ".join(sorted(step.reads)) or ("a file" if issubclass(step, SourceStep) else "nothing")
        writes = ", ".join(sorted(step.writes)) or "files, whenever its pipeline runs"
        scope = "" if issubclass(step, SourceStep | Sink) else f" Scope: {step.scope}."
        yield f"Reads {reads}. Makes {writes}.{scope}"
        if step.prefers_consensus:
            yield (
                "Where an earlier step makes a consensus it reads no other annotations, unless `from` is given or a "
                "field asks for what the consensus was made from."
            )
        if step.narrows:
            narrowed = step.reads & {step.narrows, CONSENSUS if step.narrows == "annotations" else step.narrows}
            yield f"`from` narrows {' and '.join(sorted(narrowed))}."
        for key, capability in step.engine_fields.items():
            yield f"`{key}` must be able to do `{capability}`."
        yield ""
        own = [key for key in step.model_fields if key not in Step.model_fields]
        if own:
            yield from field_rows(step, leave_out=Step.model_fields)
            yield ""


def engines() -> Iterator[str]:
    """Every kind of engine with its fields."""
    from prefdata.engines import ENGINES, EngineConfig
    from prefdata.engines.registry import PriceConfig

    yield _ENGINES
    yield from field_rows(EngineConfig)
    yield from ("", "`price` holds:", "")
    yield from field_rows(PriceConfig)
    yield ""
    for name, made in sorted(ENGINES.items()):
        if made.config.__module__.startswith("prefdata."):
            module = inspect.getmodule(made.make)
            yield from (f"## {name}", "")
            yield from paragraphs(sentence(re.sub(r"^The kind `\w+`: ", "", text_of(module))))
            if "`every: n`" in text_of(made.config):
                yield from paragraphs(text_of(made.config).split(". ", 1)[1])
            can = made.make("any", made.config.model_validate({"model": "any"})).capabilities
            yield from (f"It can do {', '.join(f'`{capability}`' for capability in sorted(can))}.", "")
            yield from field_rows(made.config, leave_out=EngineConfig.model_fields)
            yield ""


def cards() -> Iterator[str]:
    """The fields of a card."""
    from prefdata.annotators import shipped_cards
    from prefdata.cards import Aspect, Card, Output, Scale

    yield _CARDS
    yield "Shipped: " + ", ".join(f"`{name}`" for name in shipped_cards()) + " (in `annotators/cards/`)."
    yield ""
    heads = {Card: "The keys of a card", Aspect: "An aspect", Scale: "A scale", Output: "The output"}
    for model, head in heads.items():
        yield from (f"## {head}", "")
        yield from field_rows(model, said=listed(model, "Attributes"))
        yield ""


def tables() -> Iterator[str]:
    """Every table with its columns."""
    from prefdata.schema import FINISH_REASONS, KEYS, PROTOCOLS, SCHEMAS, SOURCES, STATUSES

    said: dict[str, dict[str, str]] = yaml.safe_load((FOLDER / "columns.yaml").read_text(encoding="utf-8"))
    if list(said) != list(SCHEMAS):
        raise SystemExit(f"columns.yaml describes {list(said)}; the tables are {list(SCHEMAS)}")
    values = {"FINISH_REASONS": FINISH_REASONS, "PROTOCOLS": PROTOCOLS, "SOURCES": SOURCES, "STATUSES": STATUSES}
    yield _TABLES
    for name, schema in SCHEMAS.items():
        about = {("table" if key == "table_" else key): text for key, text in said[name].items() if key != "table"}
        if list(about) != schema.names:
            raise SystemExit(f"columns.yaml, {name}: it describes {list(about)}; the columns are {schema.names}")
        yield from (f"## {name}", "", " ".join(said[name]["table"].split()), "")
        if name in KEYS:
            yield from (f"Its id is `{KEYS[name]}`.", "")
        yield from rows(
            ("column", "type", "what it is"),
            ((f"`{field.name}`", arrow(field.type), about[field.name]) for field in schema),
        )
        yield ""
    yield from ("## Values", "")
    for name, allowed in values.items():
        yield f"- {name}: {', '.join(f'`{value}`' for value in sorted(allowed))}"


def arrow(kind_: pa.DataType) -> str:
    """An Arrow type in words."""
    if pa.types.is_list(kind_):
        return f"list of {arrow(kind_.value_type)}"
    if pa.types.is_struct(kind_):
        return "{" + ", ".join(f"{field.name}: {arrow(field.type)}" for field in kind_) + "}"
    if pa.types.is_timestamp(kind_):
        return "timestamp (UTC)"
    return _ARROW[kind_]


def formats() -> Iterator[str]:
    """What is read and written."""
    from prefdata.formats import LABEL_WRITERS, READERS, WRITERS

    yield _FORMATS_IN
    for name, reader in READERS.items():
        yield from (f"### {name}", "")
        yield from paragraphs(text_of(reader))
        source = listed(reader, "Args").get("source")
        if source:
            yield from (f"Source: {source}", "")
    yield _FORMATS_OUT
    for name, writer in WRITERS.items():
        yield from (f"### {name}", "", f"A row is {writer.describes}.", "")
        if writer.schema is None:
            yield from (
                "JSON, with the entry in `dataset_info.json` beside it; held-out rows go into `NAME.valid.json`.",
                "",
            )
        else:
            messages = dict.fromkeys(writer.conversational, "list of messages")
            columns = ((f"`{field.name}`", messages.get(field.name) or arrow(field.type)) for field in writer.schema)
            yield from rows(("column", "type"), columns)
            yield ""
    yield _FORMATS_LABELS
    for name, label_writer in LABEL_WRITERS.items():
        yield from (f"### {name}", "", f"A row is {label_writer.describes}.", "", label_writer.beside, "")


def training() -> Iterator[str]:
    """The trainer's options and losses."""
    from prefdata.train import LOSSES, TrainConfig
    from prefdata.train.losses.described import SHARED_MEANINGS, kind, meanings, needs, text
    from prefdata.train.losses.registry import LIST_OPTIONS, PAIR_OPTIONS

    said = listed(TrainConfig, "Attributes")
    yield _TRAINING.rstrip("\n") + "\n"
    yield from rows(("key", "what it is"), ((f"`{name}`", what) for name, what in _METRICS.items()))
    yield _RUNNING.rstrip("\n") + "\n"
    body = []
    for field in fields(TrainConfig):
        value = field.default if field.default_factory is MISSING else field.default_factory()
        body.append((f"`{field.name}`", "required" if value is MISSING else default(value), sentence(said[field.name])))
    yield from rows(("key", "default", "what it is"), body)
    yield _LOSSES
    header = ("option", "default", "what it is")
    yield from rows(header, ((f"`{key}`", default(value), SHARED_MEANINGS[key]) for key, value in PAIR_OPTIONS.items()))
    yield from ("", "A loss that has no such option, or starts from another default, says so below.", "")
    for name, loss in sorted(LOSSES.items()):
        if not loss.function.__module__.startswith("prefdata."):
            continue
        yield from (f"### {name}", "")
        yield from paragraphs(text(loss))
        asked = "; ".join(needs(loss)) or "nothing but the responses"
        yield from (f"Over {kind(loss)}. Needs {asked}. Source: {loss.paper}.", "")
        shared = PAIR_OPTIONS if loss.over == "pairs" else LIST_OPTIONS
        meant = meanings(loss)
        own = {key: value for key, value in loss.options.items() if shared.get(key) != value or key not in shared}
        undescribed = [key for key in own if not meant[key]]
        if undescribed:
            raise SystemExit(f"the loss {name} does not describe its option {undescribed[0]}")
        if own:
            yield from rows(header, ((f"`{key}`", default(value), meant[key]) for key, value in own.items()))
            yield ""
        absent = [f"`{key}`" for key in shared if key not in loss.options]
        if absent:
            yield from (f"Does not take {', '.join(absent)}.", "")


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "steps": steps,
    "engines": engines,
    "cards": cards,
    "tables": tables,
    "formats": formats,
    "training": training,
}
"""The pages, by the name of their file."""

QUOTING = ["extending"]
"""Pages that are written by hand and quote a file."""


if __name__ == "__main__":
    sys.exit(main())
