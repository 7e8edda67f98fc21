"""Pictures: named by a file of tasks, shown to whoever has the task, gone with their prompt."""

from __future__ import annotations

import json
from pathlib import Path

from labelled import PASSWORD, person, project, service
from starlette.testclient import TestClient
from typer.testing import CliRunner

from prefdata.cli.app import app
from prefdata.ui.web.app import create_app

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def test_a_picture_of_a_task_is_seen_by_who_has_it_and_erased_with_its_prompt(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.png").write_bytes(PNG)
    row = {"prompt": "What is this?", "responses": ["a ball", "a cat"], "images": ["a.png"]}
    (source / "tasks.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    made = service(tmp_path / "data", prompts=0)
    made.projects.upload(source / "tasks.jsonl")
    (source / "a.png").unlink()  # the dataset has its own
    who, other = person(made), person(made)
    at = project(made, who, other, file="tasks.jsonl")
    task = made.next(who, at)["task"]
    (shown,) = task["prompt"]["media"]
    client = TestClient(create_app(made, mount=False), base_url="http://testserver")
    for one, status in ((who, 200), (other, 404)):
        headers = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
        client.post("/login", data={"login": one.login, "password": PASSWORD}, headers=headers)
        answer = client.get(f"/{shown['url']}")
        assert answer.status_code == status
        assert status == 404 or answer.content == PNG
    prompt = made.dataset.prompts.collect()["prompt_id"][0]
    kept = list((tmp_path / "data" / "media").iterdir())
    assert len(kept) == 1
    made.close()
    done = CliRunner().invoke(app, ["erase", str(tmp_path / "data"), "--prompt", prompt, "--yes"])
    assert done.exit_code == 0, done.output
    assert not kept[0].exists()
