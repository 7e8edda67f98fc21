"""distilabel, as its documentation shows it: a pipeline with a task of its own.

    python with_distilabel.py JUDGEMENTS.jsonl OUT --url URL --in-flight 64

Resuming is its own and on by default (`use_cache=True`: "Pipeline cache"). A batch is as large as the number in
flight: that is how it keeps so many under way.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

# Read when the package is imported.
os.environ |= {"HF_HUB_OFFLINE": "1", "DISTILABEL_LOG_LEVEL": "WARNING"}

from distilabel.models.llms import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import Task


class Judge(Task):
    @property
    def inputs(self):
        return ["text"]

    @property
    def outputs(self):
        return ["verdict"]

    def format_input(self, input):
        return [{"role": "user", "content": input["text"]}]

    def format_output(self, output, input=None):
        return {"verdict": json.loads(output)["verdict"] if output else None}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("judgements", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--url", required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    options = parser.parse_args()
    with options.judgements.open() as lines:
        rows = [json.loads(line) for line in lines]
    with Pipeline(name="judge", cache_dir=options.out / "cache") as pipeline:
        loaded = LoadDataFromDicts(data=rows, batch_size=options.in_flight)
        judged = Judge(
            llm=OpenAILLM(
                model="loopback",
                base_url=options.url,
                api_key="none",
                generation_kwargs={"temperature": 0.0, "max_new_tokens": 64},
            ),
            input_batch_size=options.in_flight,
            add_raw_output=False,
            add_raw_input=False,
        )
        loaded >> judged
    distiset = pipeline.run(use_cache=True)
    distiset["default"]["train"].to_parquet(str(options.out / "verdicts.parquet"))


if __name__ == "__main__":
    main()
