"""Fingerprints: what names a step run, and whose rows a step reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefdata.dataset import Lineage, Snapshot, StepRecord
from prefdata.dataset.log import name_of
from prefdata.dataset.view import pipeline_key, with_read
from prefdata.engines.base import Engine
from prefdata.errors import PipelineError
from prefdata.pipeline.registry import nearest
from prefdata.pipeline.spec import SPECIAL_SOURCES, Pipeline
from prefdata.pipeline.step import CONSENSUS, Sink, Step, narrowed
from prefdata.schema import canonical_json, make_id


@dataclass(frozen=True)
class Resolved:
    """A step with its fingerprint.

    Attributes:
        step: the step.
        fingerprint: `name@digest`, as it stands in the `step` column.
        record: what the log keeps of it.
        reads: the tables whose rows are its input in this pipeline.
    """

    step: Step
    fingerprint: str
    record: StepRecord
    reads: frozenset[str]


def resolve(pipeline: Pipeline, engines: Mapping[str, Engine]) -> list[Resolved]:
    """Fingerprint every step of a pipeline, in order.

    A fingerprint hashes the step's kind, code version and name, its fields after resolving (engines by their
    identity), and the fingerprints of the steps whose rows it reads. What only drops rows is left out: drops change
    what is read, and progress is noted for what was read.
    """
    made: list[Resolved] = []
    for given in pipeline.steps:
        step, reads = _reads(given, made)
        inputs = tuple(earlier.fingerprint for earlier in made if _feeds(earlier.step, step, reads))
        fields = _fields(step, engines)
        fingerprint = fingerprint_of(type(step), str(step.name), fields, inputs)
        compared = () if isinstance(step, Sink) else tuple(sorted(reads))
        record = StepRecord(fingerprint, str(step.name), step.kind, step.scope, fields, inputs, compared)
        made.append(Resolved(step, fingerprint, record, reads))
    return made


def fingerprint_of(step: type[Step], name: str, fields: Mapping[str, Any], inputs: Sequence[str]) -> str:
    """`name@digest`: what names a step of this class with these resolved fields that reads these steps."""
    return f"{name}@{make_id('step', step.kind, step.version, name, fields, list(inputs))[:16]}"


def _fields(step: Step, engines: Mapping[str, Engine]) -> dict[str, Any]:
    fields = step.resolved()
    for key in step.engine_fields:
        value = getattr(step, key)
        if isinstance(value, str):
            fields[key] = engines[value].identity
        elif value is not None:
            fields[key] = [engines[name].identity for name in value]
    if step.from_:
        fields["from"] = list(step.from_)
    if step.reads_:
        fields["reads"] = list(step.reads_)
    for key, value in fields.items():
        try:
            canonical_json(value)
        except (TypeError, ValueError) as error:
            said = "numbers must be finite" if "Out of range" in str(error) else str(error)
            raise PipelineError(
                f"step {step.name!r}: key {key!r} is {value!r:.80} and cannot be written down: {said}"
            ) from error
    return fields


def _reads(step: Step, earlier: list[Resolved]) -> tuple[Step, frozenset[str]]:
    """The step, and what it reads in its place: one that prefers a consensus seldom reads more where there is one."""
    consensus = any(CONSENSUS in other.step.writes for other in earlier)
    if not (step.prefers_consensus and consensus and not step.from_):
        return step, step.inputs()
    beside = step.beside_consensus()
    return (step, step.inputs() - {"annotations"}) if beside is None else (beside, beside.inputs())


def _feeds(earlier: Step, later: Step, reads: frozenset[str]) -> bool:
    """Whether rows that `earlier` makes are among what `later` reads."""
    shared = earlier.writes & reads
    if later.from_ and earlier.name not in later.from_:
        shared -= narrowed(later)
    return bool(shared)


def lineage_of(
    record: StepRecord, earlier: Sequence[str], pipeline: str, snapshot: Snapshot, narrows: str | None, where: str
) -> Lineage:
    """Whose rows a step reads: imports, labels, earlier steps, and other pipelines by `reads:`.

    Args:
        record: of the step.
        earlier: fingerprints of the steps before it.
        pipeline: the pipeline's key.
        snapshot: the log.
        narrows: the table that `from:` narrows.
        where: for a message.

    Raises:
        PipelineError: `reads:` or `from:` name what is not there.
    """
    runs = [(pipeline, fingerprint) for fingerprint in earlier]
    names = {name_of(fingerprint): fingerprint for fingerprint in earlier}
    for other in record.fields.get("reads", ()):
        plan = snapshot.plans.get((other, 0))
        if plan is None:
            known = sorted({name for name, _ in snapshot.plans})
            raise PipelineError(
                f"{where}: reads names the pipeline {other!r}, which this dataset does not have{nearest(other, known)}"
            )
        runs += [
            (pipeline_key(read), fingerprint)
            for read in sorted(with_read(snapshot, other))  # what rests on rows of a third pipeline needs these, too
            for fingerprint in (snapshot.plans[(read, 0)].steps if (read, 0) in snapshot.plans else ())
        ]
        names.update({f"{other}/{name_of(fingerprint)}": fingerprint for fingerprint in plan.steps})
    narrow: dict[str, frozenset[str]] = {}
    sources: set[str] = set()
    for source in record.fields.get("from", ()):
        if source in SPECIAL_SOURCES:
            kind = SPECIAL_SOURCES[source]
            sources.update(free for free in snapshot.free_steps if snapshot.steps[free].kind == kind)
        elif source in names:
            sources.add(names[source])
        else:
            raise PipelineError(f"{where}: from names {source!r}, which nothing is called")
    if record.fields.get("from") and narrows is not None:
        narrow[narrows] = frozenset(sources)
    return Lineage(tuple(runs), snapshot.free_steps, narrow)
