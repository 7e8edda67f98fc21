"""NeMo DataDesigner, as its documentation shows it: a seed data set and a structured column.

    python with_data_designer.py JUDGEMENTS.jsonl OUT --url URL --in-flight 64

Resuming is `resume=ResumeMode.IF_POSSIBLE`, row group by row group; `buffer_size`, the size of a row group, is set to
250 (1,000 unless said) so that less is lost. The health check and telemetry are off. It asks for JSON in words, not by
a response format, so that its prompts are longer by that.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

# Read when the package is imported.
os.environ |= {"NEMO_TELEMETRY_ENABLED": "false", "HF_HUB_OFFLINE": "1"}

import data_designer.config as dd
from data_designer.interface import DataDesigner
from pydantic import BaseModel


class Verdict(BaseModel):
    verdict: str


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("judgements", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--url", required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    options = parser.parse_args()
    with options.judgements.open() as lines:
        rows = sum(1 for _ in lines)
    provider = dd.ModelProvider(name="loopback", endpoint=options.url, provider_type="openai", api_key="none")
    model = dd.ModelConfig(
        alias="judge",
        model="loopback",
        provider="loopback",
        skip_health_check=True,
        inference_parameters=dd.ChatCompletionInferenceParams(
            temperature=0.0, max_tokens=64, max_parallel_requests=options.in_flight
        ),
    )
    config = dd.DataDesignerConfigBuilder(model_configs=[model])
    config.with_seed_dataset(dd.LocalFileSeedSource(path=str(options.judgements)))
    config.add_column(
        dd.LLMStructuredColumnConfig(name="verdict", prompt="{{ text }}", model_alias="judge", output_format=Verdict)
    )
    designer = DataDesigner(artifact_path=options.out, model_providers=[provider])
    designer.set_run_config(dd.RunConfig(buffer_size=min(250, rows), otel_metrics_port=None))
    made = designer.create(config, num_records=rows, dataset_name="verdicts", resume=dd.ResumeMode.IF_POSSIBLE)
    found = made.load_dataset()
    assert len(found) == rows, f"{len(found)} of {rows} rows"


if __name__ == "__main__":
    main()
