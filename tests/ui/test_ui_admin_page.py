"""The admin page: every event is behind the lock, uploads are hostile, what is promised before the start is made."""

from __future__ import annotations

import html as html_module
import inspect
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled import answer, person, project, service, submit

from prefdata.errors import DataError, PrefdataError
from prefdata.schema import canonical_json
from prefdata.ui.accounts.people import NotAllowed, Person
from prefdata.ui.accounts.sessions import COOKIE
from prefdata.ui.service import Service
from prefdata.ui.work import uploads
from prefdata.ui.work.project import PROTOCOLS, Project
from prefdata.ui.work.rehearsal import free_name, rehearse

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
gr = pytest.importorskip("gradio")

from prefdata.ui.pages import admin, admin_fields, admin_hours, admin_people, admin_projects, admin_setup  # noqa: E402
from prefdata.ui.pages.admin_parts import Desk  # noqa: E402


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "temp"))
    opened = service(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def lead(made: Service) -> Person:
    return person(made, "admin", pseudonym="lead")


def asking(made: Service, who: Person | None) -> Any:
    """A request with that person's session, or without any."""
    if who is None:
        return SimpleNamespace(headers={})
    return SimpleNamespace(headers={"Cookie": f"{COOKIE}={made.people.begin(who, '127.0.0.1')}"})


def drawn(made: Service, tab: Any) -> Any:
    with gr.Blocks():
        return tab(Desk(made))


def values(**said: Any) -> list[Any]:
    """The form as it is when the page is opened, but for what is said."""
    given = {name: "" if field.is_required() else field.default for name, field in Project.model_fields.items()}
    shown = {name: ", ".join(one) if isinstance(one, tuple) else one for name, one in given.items()}
    return [{**shown, "name": "first", **said}[name] for name in admin_fields.NAMES]


def upload(made: Service, name: str, content: str) -> dict[str, str]:
    """What a request says of a file that was uploaded."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"]) / "abc"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)
    return {"path": str(folder / name), "orig_name": name}


# The lock


def test_every_event_refuses_whoever_is_no_admin(made: Service, lead: Person) -> None:
    page = admin.build(made)
    events = list(page.fns.values())
    assert len(events) > 40
    assert {event.api_visibility for event in events} == {"private"}
    handled = [event for event in events if event.fn is not None]
    assert len(events) - len(handled) == 1  # the script that notes the page's address: it runs in the browser only
    strangers = [None, person(made), person(made, "reviewer")]
    for event in handled:
        assert next(iter(inspect.signature(event.fn).parameters)) == "request"
        for who in strangers:
            with pytest.raises(gr.Error, match=r"sign in again|for the role admin"):
                event.fn(asking(made, who), *[None for _ in event.inputs])
    assert made.projects.list() == ()
    # The same calls by an admin come through: it is the lock that refuses.
    refused = 0
    for event in handled:
        try:
            event.fn(asking(made, lead), *[None for _ in event.inputs])
        except gr.Error as error:
            assert "sign in" not in str(error)
            refused += 1
    assert refused < len(handled) / 2


def test_what_goes_wrong_is_a_sentence_that_is_no_markup(made: Service, lead: Person) -> None:
    page = admin.build(made)
    invite = next(event for event in page.fns.values() if event.name == "invite")
    with pytest.raises(gr.Error, match="&lt;img") as caught:
        invite.fn(asking(made, lead), "", "<img src=x>", 1, "annotator", "", "", None)
    assert "<img" not in str(caught.value)


# The form


def test_the_form_has_every_field_of_a_project_once() -> None:
    placed = [*admin_fields.WHAT] + [name for row in admin_fields.FIRST for name in row]
    placed += [name for names in admin_fields.PARTS.values() for name in names]
    assert sorted(placed) == sorted(Project.model_fields)
    assert "More" not in admin_fields.PARTS  # a new field is there at once, but deserves a better place
    for name, field in Project.model_fields.items():
        assert field.description
        assert admin_fields.about(name)
    assert "path" not in "".join(admin_fields.about(name) for name in placed)


def test_only_what_concerns_the_protocol_is_visible() -> None:
    shown = {
        protocol: {
            name
            for name in admin_fields.NAMES
            if admin_fields.concerns(name, {**Project(name="p", protocol=protocol).model_dump()})
        }
        for protocol in PROTOCOLS
    }
    assert {"points", "both_bad", "pairs"} <= shown["compare"]
    assert not {"top", "ties", "input", "span_labels", "best", "none"} & shown["compare"]
    assert {"top", "ties"} <= shown["rank"]
    assert {"best", "none"} <= shown["best"]
    assert "span_labels" in shown["spans"]
    for name in ("pass_mark", "gold_share", "route_by"):
        assert not any(name in names for names in shown.values())
    fields = {**Project(name="p").model_dump(), "gold": "x", "qualify": 3, "route": "score"}
    assert all(admin_fields.concerns(name, fields) for name in ("pass_mark", "gold_share", "route_by"))


def test_the_form_is_opened_without_the_fields_of_other_protocols(made: Service) -> None:
    widgets = drawn(made, admin_setup.Setup).widgets
    hidden = {name for name in admin_fields.NAMES if not widgets[name].visible}
    assert hidden == {
        *("ties", "top", "best", "none", "input", "span_labels"),
        *("gold_share", "qualify", "pass_mark", "route_by", "route_aspect"),
    }


def test_from_a_file_to_an_open_project(made: Service, lead: Person) -> None:
    setup = drawn(made, admin_setup.Setup)
    content = 'prompt,response_1,response_2\nwhich?,"a </script><b>",b\nand now?,c,d\n'
    sent = upload(made, "tasks-2.csv", content)
    cleared, told, name, file, outlook, preview = setup._take(lead, sent, *values(name="project"))
    assert cleared is None
    assert not list(Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*.csv"))
    assert "new are 2 prompts and 4 responses" in told
    assert "5 prompts with 10 responses" in told
    assert (name, file["value"]) == ("tasks-2", "tasks-2.csv")
    assert "2 tasks, 2 labels in all" in outlook
    assert "5 tasks" in setup._rehearsed(lead, tuple(values()))[0]
    assert "iframe" in preview
    _, said = setup._begin(lead, *values(name=name, overlap=2, file=file["value"]))
    assert "2 new tasks" in said
    held = made.projects.get("tasks-2")
    assert made.projects.progress(held.id)["wanted"] == 4
    _, again = setup._begin(lead, *values(name=name, overlap=2, file=file["value"]))
    assert "nothing was added" in again
    with pytest.raises(DataError, match="states something else"):
        setup._begin(lead, *values(name=name, overlap=3, file=file["value"]))
    with pytest.raises(DataError, match="was uploaded"):
        setup._begin(lead, *values(name="other", file="/etc/passwd"))
    assert "was uploaded" in setup._rehearsed(lead, tuple(values(file="/etc/passwd")))[0]
    assert free_name(made, "tasks-2") == "tasks-2-2"
    assert free_name(made, "../ä b") == "b"


def test_a_text_of_a_response_stays_within_the_preview(made: Service, lead: Person) -> None:
    bad = '</script><script>parent.evil=1</script>"><img src=x onerror=alert(1)>\u202e&quot;'
    setup = drawn(made, admin_setup.Setup)
    content = canonical_json({"prompt": bad, "responses": [bad, "b"]}) + "\n"
    made.projects.upload(Path(upload(made, "x.jsonl", content)["path"]))
    made.dataset.drop("prompts", _first_prompts(made, 3), reason="test")
    shown = setup._rehearsed(lead, tuple(values()))[1]
    assert shown.count("<iframe") == 1
    srcdoc = html_module.unescape(shown.partition('srcdoc="')[2].partition('"')[0])
    assert srcdoc.count("</script>") == 2  # the task's own, and the one that draws it
    task = json.loads(srcdoc.partition('id="task">')[2].partition("</script>")[0])
    assert {target["plain"] for target in task["targets"]} == {bad, "b"}


def _first_prompts(made: Service, count: int) -> list[str]:
    texts = made.dataset.view()["prompts"].select("prompt_id", "messages").collect().to_dicts()
    return [row["prompt_id"] for row in texts if row["messages"][-1]["content"].startswith("question")][:count]


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Service]]:
    """A service with two prompts for each number of responses."""
    opened = {size: service(tmp_path_factory.mktemp("told"), prompts=2, responses=size) for size in (2, 3, 4)}
    yield opened
    for one in opened.values():
        one.close()


@given(
    size=st.integers(2, 4),
    protocol=st.sampled_from(PROTOCOLS),
    pairs=st.sampled_from(["all", "adjacent", "one"]),
    responses=st.sampled_from([0, 2, 3]),
    budget=st.sampled_from([0, 1, 3]),
    overlap=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_as_many_tasks_are_made_as_were_told(sizes: dict[int, Service], size: int, **fields: Any) -> None:
    opened = sizes[size]
    name = f"p{len(opened.projects.list())}"
    told = rehearse(opened, None, {"name": name, **fields})
    assert not told.known
    held, added = opened.projects.create({"name": name, **fields})
    assert told.tasks == added
    assert told.labels == opened.projects.progress(held.id)["wanted"]
    assert told.task is not None
    assert rehearse(opened, None, {"name": name, **fields}).known


def test_gold_questions_are_counted_before_and_asked_after_and_can_be_added_to(made: Service, lead: Person) -> None:
    setup = drawn(made, admin_setup.Setup)
    row = canonical_json({"prompt": "which?", "responses": ["good", "bad"], "gold": {"choice": -1}})
    _, choices, told = setup._take_gold(lead, upload(made, "my gold!.jsonl", row + "\n"))
    assert "1 gold question can be asked now" in told
    name = choices["value"]
    assert [label for label, _ in choices["choices"]] == ["none", "my-gold-.jsonl"]
    outlook = setup._rehearsed(lead, tuple(values(gold=name)))[0]
    assert "3 tasks, 3 labels in all, and 1 gold question" in outlook
    assert made.dataset.counts()["prompts"] == 3
    setup._begin(lead, *values(gold=name))
    assert made.projects.progress("first")["gold"] == 1
    made.projects.upload(Path(upload(made, "more.csv", "prompt,response_1,response_2\nmore?,a,b\n")["path"]))
    tab = drawn(made, admin_projects.ProjectsTab)
    tab._add(lead, made.projects.get("first").id)
    assert made.projects.progress("first")["tasks"] == 4


def test_gold_rows_among_the_others_of_a_file_are_told_apart(made: Service, lead: Person) -> None:
    setup = drawn(made, admin_setup.Setup)
    rows = [{"prompt": "plain?", "responses": ["a", "b"], "warning": "harsh words"}]
    rows.append({"prompt": "known?", "responses": ["c", "d"], "gold": {"choice": 1}})
    sent = upload(made, "both.jsonl", "".join(canonical_json(row) + "\n" for row in rows))
    outlook, preview = setup._take(lead, sent, *values())[-2:]
    assert "1 task, 1 label in all, and 1 gold question" in outlook
    assert "harsh words" in preview
    setup._begin(lead, *values(file="both.jsonl"))
    far = made.projects.progress("first")
    assert (far["tasks"], far["gold"]) == (1, 1)


def test_gold_questions_without_an_answer_are_refused_before_the_start(made: Service, lead: Person) -> None:
    setup = drawn(made, admin_setup.Setup)
    name = setup._take_gold(lead, upload(made, "g.csv", "prompt,response_1,response_2\nx?,a,b\n"))[1]["value"]
    with pytest.raises(DataError, match="has no `gold`") as caught:
        setup._begin(lead, *values(gold=name))
    assert str(made.dataset.path) not in str(caught.value)
    assert made.projects.list() == ()


def test_a_card_of_ones_own_can_be_chosen(made: Service, lead: Person) -> None:
    setup = drawn(made, admin_setup.Setup)
    card = "name: brevity\ninstructions: Judge.\naspects:\n  - {name: short, text: 'Is it short?'}\n"
    _, choices, told = setup._take_card(lead, upload(made, "mine.yaml", card))
    assert "brevity" in told and "pa-good" in told
    assert ("mine.yaml (yours)", choices["value"]) in choices["choices"]
    setup._begin(lead, *values(card=choices["value"], guidelines="/etc/hostname.md"))
    guideline = made.projects.guidelines("first")[0]
    assert guideline.card.name == "brevity"
    assert guideline.text == "/etc/hostname.md\n"  # what was typed is no path, whatever it looks like
    cleared, unchanged, told = setup._take_card(lead, upload(made, "bad.yaml", "name: [\n"))
    assert cleared is None and "value" not in unchanged
    assert "bad.yaml" in told and "pa-bad" in told
    assert os.environ["GRADIO_TEMP_DIR"] not in told
    tab = drawn(made, admin_projects.ProjectsTab)
    assert "pa-bad" in tab._take_card(lead, upload(made, "bad.yaml", "name: [\n"))[2]


@pytest.mark.parametrize(
    ("name", "content"),
    [("bad.csv", "a,b\n1,2\n"), ("bad.jsonl", "{\n"), ("bad.parquet", "no"), ("bad.exe", "x")],
)
def test_a_refused_file_is_told_where_a_good_one_is_and_the_field_is_free_again(
    made: Service, lead: Person, name: str, content: str
) -> None:
    setup = drawn(made, admin_setup.Setup)
    cleared, told, *others = setup._take(lead, upload(made, name, content), *values())
    assert cleared is None
    assert "pa-bad" in told and "was not taken" in told and name in told
    assert os.environ["GRADIO_TEMP_DIR"] not in told
    assert len(others) == 4 and all("value" not in one for one in others)  # what was filled in stays
    assert made.dataset.counts()["prompts"] == 3
    cleared, unchanged, told = setup._take_gold(lead, upload(made, name, content))
    assert cleared is None and "value" not in unchanged and "pa-bad" in told
    assert not list(Path(os.environ["GRADIO_TEMP_DIR"]).rglob("bad.*"))


# Uploads


def test_only_what_lies_in_the_upload_folder_is_read_and_it_is_deleted(made: Service, tmp_path: Path) -> None:
    folder = tmp_path / "temp"
    inside = Path(upload(made, "a.csv", "x")["path"])
    outside = tmp_path / "secret.csv"
    outside.write_text("secret")
    link = inside.parent / "link.csv"
    link.symlink_to(outside)
    for sent in (
        None,
        [],
        "a.csv",
        {"path": None},
        {"path": str(outside)},
        {"path": f"{inside.parent}/../../secret.csv"},
        {"path": str(link)},
        {"path": str(folder)},
        {"path": f"{inside}\x00"},
        {"path": f"{inside}.csv"},
        {"path": "http://127.0.0.1/x.csv"},
    ):
        with pytest.raises(DataError), uploads.received(sent, folder, uploads.TASKS):
            pytest.fail("it was read")
    assert outside.read_text() == "secret"
    with pytest.raises(DataError, match="another kind"), uploads.received({"path": str(inside)}, folder, (".yaml",)):
        pytest.fail("it was read")
    assert not inside.exists()
    fresh = Path(upload(made, "b.csv", "x")["path"])
    link.unlink()
    with uploads.received([{"path": str(fresh)}], folder, uploads.TASKS) as path:
        assert path.read_text() == "x"
    assert not fresh.parent.exists()
    assert folder.exists()


@pytest.mark.parametrize(
    "name",
    [
        "../labels.sqlite",
        "gold-12345678-../x",
        "/etc/passwd",
        "card-12345678-a.yaml",
        "gold-1-x",
        7,
        "gold-00000000-x.csv",
    ],
)
def test_a_kept_file_is_named_never_a_path(made: Service, name: object) -> None:
    with pytest.raises(DataError):
        uploads.path_of(made.dataset.path, name, "gold")
    assert uploads.path_of(made.dataset.path, "", "gold") == ""


@pytest.mark.parametrize("card", ["/etc/passwd", "./x.yaml", "", "nothing"])
def test_a_card_is_a_shipped_one_or_an_upload(made: Service, lead: Person, card: object) -> None:
    setup = drawn(made, admin_setup.Setup)
    with pytest.raises(PrefdataError):
        setup._begin(lead, *values(card=card))
    assert made.projects.list() == ()


# People


def test_invitations_name_the_address_that_the_browser_shows() -> None:
    assert admin_people.link("https://x.org/labels/admin/", "T") == "https://x.org/labels/invite/T"
    assert admin_people.link("http://localhost:7860/admin/?a=1", "T") == "http://localhost:7860/invite/T"
    assert admin_people.link("javascript:alert(1)//admin/", "T").startswith("javascript") is False
    assert admin_people.link(None, "T") == "/invite/T"


def test_one_or_many_are_invited_and_the_links_work_once(made: Service, lead: Person) -> None:
    tab = drawn(made, admin_people.PeopleTab)
    here = "http://localhost/admin/"
    shown, *_ = tab._invite(lead, here, "amber, birch\ncedar", 1, "reviewer", "night", "de, law", 14.5)
    lines = shown["value"].splitlines()
    assert [line.partition(":")[0] for line in lines] == ["amber", "birch", "cedar"]
    token = lines[0].rpartition("/")[2]
    joined = made.people.accept(token, "someone", "a quiet afternoon")
    assert (joined.pseudonym, joined.role, joined.groups, joined.pay) == ("amber", "reviewer", ("night",), 14.5)
    assert made.people.invited(token) is None
    numbered, *_ = tab._invite(lead, here, "", 3, "annotator", None, None, None)
    assert len(numbered["value"].splitlines()) == 3
    for wrong in (("", 0), ("", 101), (", ".join(f"p{n}" for n in range(101)), 1), ("amber", 1), ("a b", 1)):
        with pytest.raises(DataError):
            tab._invite(lead, here, *wrong, "annotator", "", "", None)
    assert len(made.people.list()) == 7


def test_a_person_is_changed_paused_reset_and_stopped(made: Service, lead: Person) -> None:
    tab = drawn(made, admin_people.PeopleTab)
    one = person(made)
    held = project(made, one)
    submit(made, one, made.next(one, held)["task"], "k")
    tab._save(lead, one.person_id, "reviewer", "a, b", "de", 12)
    changed = made.people.get(one.person_id)
    assert (changed.role, changed.groups, changed.skills, changed.pay) == ("reviewer", ("a", "b"), ("de",), 12.0)
    tab._pause(lead, one.person_id)
    assert made.people.get(one.person_id).state == "paused"
    tab._resume(lead, one.person_id)
    assert "/invite/" in tab._reset(lead, "http://localhost/admin/", one.person_id)[7]["value"]
    assert "Their 1 label leave" in tab._ask_stop(lead, one.person_id, "exclude")
    tab._stop(lead, one.person_id, "exclude")
    made.pull()
    assert made.dataset.counts()["annotations"] == 0
    for nobody in (None, "x", 99, True):
        with pytest.raises(DataError):
            tab._stop(lead, nobody, "keep")


def test_the_table_says_who_they_are_and_how_much_they_have_done(made: Service, lead: Person) -> None:
    from prefdata.ui.work import management

    added = made.people.add("ann-07")
    one = made.people.accept(made.people.invite(added.person_id), "a<b>@example.org", "a quiet afternoon")
    other = person(made)
    held = project(made, one, other)
    for turn in range(2):
        submit(made, one, made.next(one, held)["task"], f"k{turn}")
    done = management.done_by(made, lead)
    assert set(done) == {one.person_id}
    assert (done[one.person_id].labels, done[one.person_id].today) == (2, 2)
    shown = drawn(made, admin_people.PeopleTab)._of(None)[0]
    assert "a&lt;b&gt;@example.org" in shown
    assert shown.count(" UTC</span>") == 1
    with pytest.raises(NotAllowed):
        management.done_by(made, one)


# Projects and hours


def test_who_did_not_pass_can_be_let_on(made: Service, lead: Person) -> None:
    one, other = person(made, pseudonym="ann"), person(made, pseudonym="bob")
    setup = drawn(made, admin_setup.Setup)
    rows = [{"prompt": f"gold {n}?", "responses": ["good", "bad"], "gold": {"choice": -1}} for n in range(2)]
    name = setup._take_gold(lead, upload(made, "g.jsonl", "".join(canonical_json(row) + "\n" for row in rows)))[1]
    setup._begin(lead, *values(gold=name["value"], qualify=2, pass_mark=0.5))
    held = made.projects.get("first").id
    tab = drawn(made, admin_projects.ProjectsTab)
    part, told, row, _ = tab._of(held)[-4:]
    assert part["visible"] and "Nobody has answered" in told and not row["visible"]
    for who, good in ((one, False), (other, True)):
        made.projects.acknowledge(who, held, made.projects.get(held).guideline)
        for turn in range(2):
            task = made.next(who, held)["task"]
            first = task["targets"][0]["plain"] == "good"
            submit(made, who, task, f"{who.pseudonym}{turn}", {"choice": -1 if first == good else 1})
    assert made.next(one, held)["state"] == "unqualified"
    _, told, row, choice = tab._of(held)[-4:]
    assert "did not pass" in told and "passed" in told
    assert row["visible"] and (choice["choices"], choice["value"]) == ([("ann", one.person_id)], one.person_id)
    with pytest.raises(NotAllowed):
        tab._let_on(one, held, one.person_id)
    _, told, row, choice = tab._let_on(lead, held, one.person_id)[-4:]
    assert "let go on" in told and not row["visible"] and choice["choices"] == []
    assert made.next(one, held)["state"] == "task"
    with pytest.raises(DataError):
        tab._let_on(lead, held, None)


def test_a_project_is_paused_its_guidelines_change_and_labels_are_made_anew(made: Service, lead: Person) -> None:
    one = person(made)
    held = project(made, one)
    submit(made, one, made.next(one, held)["task"], "k", {"choice": 1})
    tab = drawn(made, admin_projects.ProjectsTab)
    tab._to("paused")(lead, held)
    assert made.projects.get(held).state == "paused"
    old = made.projects.get(held).guideline
    tab._change(lead, held, "", "Be strict.")
    assert made.projects.get(held).guideline != old
    shown = tab._of(held)
    assert "1 of 3 labels" in shown[1]
    assert "holds now" in shown[2]
    assert shown[4] == "Be strict."
    assert (old, f"{old} (1 label)") in [(value, label) for label, value in shown[5]["choices"]]
    assert "1 label of p would leave" in tab._ask_anew(lead, held, old, 0, "same")
    assert "no such label" in tab._ask_anew(lead, held, made.projects.get(held).guideline, 0, "same")
    tab._anew(lead, held, old, 0, "same")
    assert made.projects.progress(held)["labels"] == 0
    with pytest.raises(DataError, match="say which labels"):
        tab._ask_anew(lead, held, "", 0, "same")
    with pytest.raises(DataError, match=r"shipped|upload"):
        tab._change(lead, held, "/etc/passwd", "")
    with pytest.raises(NotAllowed):
        tab._to("closed")(one, held)


def test_the_page_is_drawn_without_a_project(made: Service, lead: Person) -> None:
    assert "no project yet" in drawn(made, admin_projects.ProjectsTab)._of(None)[1]
    assert "Nobody has worked yet" in drawn(made, admin_hours.HoursTab)._of("")[1]


def test_hours_come_as_a_file_within_the_page(made: Service, lead: Person) -> None:
    import base64

    one = person(made, pseudonym="amber", pay=12)
    held = project(made, one)
    task = made.next(one, held)["task"]
    submit(made, one, task, "k", answer(task))
    _, table, file = drawn(made, admin_hours.HoursTab)._of("p")
    assert "amber" in table
    content = base64.b64decode(file.partition("base64,")[2].partition('"')[0]).decode()
    assert content.splitlines()[0].startswith("person,week")
    assert content.splitlines()[1].startswith("amber,")
    assert not list(Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*.csv"))
    keep = drawn(made, admin_hours.KeepTab)
    assert "1 label wait" in keep._waiting()
    assert "Every label is in the dataset" in keep._pull(lead)


@pytest.mark.parametrize(
    ("minutes", "told"),
    [(0, "0 s"), (0.4, "24 s"), (5.4, "5 min"), (59.7, "1 h 00 min"), (65, "1 h 05 min"), (60_000, "1,000 h 00 min")],
)
def test_short_times_do_not_become_nothing(minutes: float, told: str) -> None:
    assert admin_hours.worked(minutes) == told


def test_a_backup_is_made_by_a_button_and_can_be_opened(made: Service, lead: Person) -> None:
    from prefdata.ui.store import Store
    from prefdata.ui.work import management

    one = person(made)
    held = project(made, one)
    submit(made, one, made.next(one, held)["task"], "k")
    told = drawn(made, admin_hours.KeepTab)._copy(lead)
    (path,) = (made.dataset.path / "backups").glob("labels-*")
    assert str(path.absolute()) in told and "1 label, all" in told
    assert path.parent.stat().st_mode & 0o077 == 0
    copy = Store(f"sqlite:///{path}")
    try:
        from sqlalchemy import text

        with copy.read() as db:
            assert db.execute(text("SELECT count(*) FROM labels")).scalar() == 1
    finally:
        copy.close()
    with pytest.raises(NotAllowed):
        management.back_up(made, one)
    assert "labels backup DIR --out COPY.sqlite" in str(admin_hours._hint())
