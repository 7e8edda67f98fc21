"""bespokelabs-curator, as its documentation shows it: an LLM with a response format over a data set.

    python with_curator.py JUDGEMENTS.jsonl OUT --url URL --in-flight 64

Resuming is its own and on by default: the same data set and prompt find their working folder again ("Caching and
recovery"). No limit of its own is left in the way: requests and tokens a minute are set beyond what can be reached.
Its token count wants a file from the network; litellm, which it depends on, brings that file along.
"""

from __future__ import annotations

import argparse
import json
import os
from importlib.util import find_spec
from pathlib import Path

os.environ |= {"TELEMETRY_ENABLED": "false", "CURATOR_DISABLE_RICH_DISPLAY": "1", "HF_HUB_OFFLINE": "1"}
litellm = find_spec("litellm")
assert litellm and litellm.origin
os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.origin).parent / "litellm_core_utils" / "tokenizers")
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

from bespokelabs import curator  # noqa: E402  (it reads the environment when it is imported)
from pydantic import BaseModel  # noqa: E402


class Verdict(BaseModel):
    verdict: str


class Judge(curator.LLM):
    response_format = Verdict

    def prompt(self, row):
        return row["text"]

    def parse(self, row, response):
        return {"case": row["case"], "order": row["order"], "verdict": response.verdict}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("judgements", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--url", required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    options = parser.parse_args()
    os.environ["OPENAI_API_KEY"] = "none"
    judge = Judge(
        model_name="loopback",
        backend="openai",
        generation_params={"temperature": 0.0, "max_tokens": 64},
        backend_params={
            "base_url": options.url,
            "max_concurrent_requests": options.in_flight,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
        },
    )
    with options.judgements.open() as lines:
        rows = [json.loads(line) for line in lines]
    verdicts = judge(rows, working_dir=str(options.out / "work")).dataset
    verdicts.to_parquet(str(options.out / "verdicts.parquet"))


if __name__ == "__main__":
    main()
