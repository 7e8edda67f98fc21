"""The labelling page in a real browser, against a small fake of the server: what is pressed is what is sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio")
sync_api = pytest.importorskip("playwright.sync_api")

import label_fake as fakes  # noqa: E402

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path("/usr/bin/chromium").exists(), reason="needs chromium"),
]

Page = Any
Case = tuple[dict[str, Any], Callable[[Page], Any], dict[str, Any]]


@pytest.fixture(scope="module")
def fake() -> Iterator[fakes.Fake]:
    made = fakes.Fake()
    server = fakes.Server(made)
    server.start()
    yield made
    server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        made = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def one_page(browser: Any) -> Iterator[tuple[Page, list[str]]]:
    """One page for all tests: its scripts are compiled once."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce").new_page()
    page.set_default_timeout(5000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page, errors


@pytest.fixture
def page(one_page: tuple[Page, list[str]], fake: fakes.Fake) -> Iterator[Page]:
    """The page, with nothing kept from the test before."""
    made, errors = one_page
    fake.reset()
    made.goto(f"{fake.url}/login")
    made.evaluate("localStorage.clear()")
    yield made
    made.set_viewport_size({"width": 1280, "height": 800})
    assert not errors


def opened(page: Page, fake: fakes.Fake, *tasks: dict[str, Any], path: str = "/bare") -> Page:
    fake.reset(*tasks)
    page.goto(f"{fake.url}{path}?project=1")
    page.wait_for_selector(".pd-bar, .pd-message, .pd-veil")
    return page


def press(*keys: str) -> Callable[[Page], None]:
    return lambda page: [page.keyboard.press(key) for key in keys] and None


def click(*names: str, role: str = "radio") -> Callable[[Page], None]:
    """Clicks controls by their accessible name; the button Submit by `Submit`."""

    def run(page: Page) -> None:
        for name in names:
            kind = "button" if name == "Submit" else role
            page.get_by_role(kind, name=name, exact=name != "Submit").click()

    return run


def then(*acts: Callable[[Page], Any]) -> Callable[[Page], None]:
    return lambda page: [act(page) for act in acts] and None


def focus(name: str) -> Callable[[Page], None]:
    return lambda page: page.get_by_role("radio", name=name).focus()


def all_done(page: Page) -> None:
    page.get_by_text("All done.").wait_for()


TASKS = fakes.canned()
ASPECTS = [
    {"name": "help", "text": "", "min": 1, "max": 7, "step": 1, "anchors": []},
    {"name": "truth", "text": "", "min": 0, "max": 4, "step": 1, "anchors": []},
]
LEVEL = [{"name": "level", "text": "", "min": 0, "max": 100, "step": 5, "anchors": []}]


def compare(points: int, **options: Any) -> dict[str, Any]:
    return fakes.task("compare", options={"points": points, **options})


def rank(count: int, **options: Any) -> dict[str, Any]:
    return fakes.task("rank", count, options=options)


def best(**options: Any) -> dict[str, Any]:
    return fakes.task("best", 4, options=options)


def rate(count: int = 1, **options: Any) -> dict[str, Any]:
    return fakes.task("rate", count, options={"aspects": ASPECTS, **options})


SPANS = TASKS["spans"]
AT = fakes.SPAN_TEXT.index

KEYBOARD: dict[str, Case] = {
    "compare much": (compare(7), press("1"), {"choice": -3}),
    "compare tie": (compare(7), press("4"), {"choice": 0}),
    "compare last": (compare(7), press("7"), {"choice": 3}),
    "compare even": (compare(4), press("3"), {"choice": 1}),
    "compare two": (compare(2), press("2"), {"choice": 1}),
    "compare nine": (compare(9), press("9"), {"choice": 4}),
    "compare both bad": (compare(7), press("b"), {"choice": "both_bad"}),
    "compare tab": (compare(3), then(focus("A is better"), press("ArrowRight", "Space")), {"choice": 0}),
    "rank": (rank(4), press("2", "1", "4", "3", "Enter"), {"ranks": [2, 1, 4, 3]}),
    "rank tie by number": (rank(3), press("1", "1", "3", "Enter"), {"ranks": [1, 1, 2]}),
    "rank tie by key": (rank(3), press("1", "2", "3", "=", "Enter"), {"ranks": [1, 2, 2]}),
    "rank moves": (rank(3), press("1", "2", "3", "[", "[", "Enter"), {"ranks": [2, 3, 1]}),
    "rank down": (rank(3), press("1", "2", "3", "k", "k", "]", "Enter"), {"ranks": [2, 1, 3]}),
    "rank no ties": (rank(2, ties=False), press("1", "1", "k", "2", "Enter"), {"ranks": [2, 1]}),
    "rank top 2 of 8": (
        rank(8, top=2),
        press("j", "2", "j", "1", "Enter"),
        {"ranks": [None, 2, None, 1, None, None, None, None]},
    ),
    "rate": (rate(), press("5", "0", "Enter"), {"scores": {"help": [5], "truth": [0]}}),
    "rate with j": (rate(), press("5", "j", "3", "Enter"), {"scores": {"help": [5], "truth": [3]}}),
    "rate two": (rate(2), press("1", "2", "3", "4", "Enter"), {"scores": {"help": [1, 3], "truth": [2, 4]}}),
    "rate corrected": (rate(), press("5", "k", "6", "1", "Enter"), {"scores": {"help": [6], "truth": [1]}}),
    "rate slider": (rate(aspects=LEVEL, input="slider"), press("9", "h", "Enter"), {"scores": {"level": [95]}}),
    "best": (best(), press("3"), {"best": [2]}),
    "best none": (best(none=True), press("0"), {"best": []}),
    "best two": (best(best=2), press("4", "2", "Enter"), {"best": [1, 3]}),
    "best cursor": (best(), press("j", "j", "Space"), {"best": [1]}),
    "thumbs": (fakes.task("thumbs", 1), press("n"), {"thumbs": [0]}),
    "thumbs three": (fakes.task("thumbs", 3), press("y", "-", "+", "Enter"), {"thumbs": [1, 0, 1]}),
    "first error": (TASKS["first_error"], press("j", "j", "j", "j", "Enter"), {"step": 3}),
    "first error none": (TASKS["first_error"], press("0", "Enter"), {"step": None}),
    "spans": (
        SPANS,
        # The first two words are "The capital", the sixth is "Sydney", the seventh the kangaroo, the eighth the flag.
        press("l", "Shift+ArrowRight", "2", "l", "l", "l", "l", "l", "L", "1", "Enter"),
        {
            "spans": [
                {"target": 0, "start": 0, "end": 11, "label": "unsupported"},
                {"target": 0, "start": AT("🦘"), "end": AT(", which"), "label": "wrong"},
            ]
        },
    ),
    "spans removed": (SPANS, press("l", "1", "l", "2", "[", "Delete", "Enter"), {
        "spans": [{"target": 0, "start": 4, "end": 11, "label": "unsupported"}]}),
    "spans nothing": (SPANS, press("Enter", "Enter"), {"spans": []}),
    "edit": (
        TASKS["edit"],
        lambda page: (page.keyboard.press("e"), page.keyboard.press("Control+a"), page.keyboard.type("Do u see? 1 s"),
                      page.keyboard.press("Control+Enter")),
        {"target": 0, "text": "Do u see? 1 s"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KEYBOARD)
def test_keys_give_the_answer(page: Page, fake: fakes.Fake, name: str) -> None:
    task, act, wanted = KEYBOARD[name]
    act(opened(page, fake, task))
    all_done(page)
    assert fake.answers == [wanted]


def drag(*moves: tuple[str, str, float]) -> Callable[[Page], None]:
    """Drags rows of the ranking: (row, onto, at what part of its height); `rest` is the area of what is not ranked."""

    def box(page: Page, name: str) -> Any:
        place = ".pd-unranked" if name == "rest" else ".pd-ranked" if name == "ranked" else f"[data-target='{name}']"
        return page.locator(place).bounding_box()

    def run(page: Page) -> None:
        for row, onto, part in moves:
            start, end = box(page, row), box(page, onto)
            page.mouse.move(start["x"] + 15, start["y"] + start["height"] / 2)
            page.mouse.down()
            page.mouse.move(end["x"] + 30, end["y"] + end["height"] / 2)
            page.mouse.move(end["x"] + 30, end["y"] + end["height"] * part)
            page.mouse.up()

    return run


def select(start: int, end: int) -> Callable[[Page], None]:
    """Selects characters [start, end) of the first text with the mouse, by where they stand on the screen."""
    where = """([start, end]) => {
      const body = document.querySelector(".pd-spans");
      const place = (at) => {
        let left = at;
        for (const run of body.childNodes) {
          if (left <= run.textContent.length) {
            const range = document.createRange();
            range.setStart(run.firstChild, left);
            range.setEnd(run.firstChild, left);
            const box = range.getBoundingClientRect();
            return [box.left, (box.top + box.bottom) / 2];
          }
          left -= run.textContent.length;
        }
      };
      return [place(start), place(end)];
    }"""

    def run(page: Page) -> None:
        units = [len(fakes.SPAN_TEXT[:at].encode("utf-16-le")) // 2 for at in (start, end)]
        first, last = page.evaluate(where, units)
        page.mouse.move(*first)
        page.mouse.down()
        page.mouse.move(*last, steps=3)
        page.mouse.up()

    return run


def label(name: str) -> Callable[[Page], None]:
    return lambda page: page.locator(".pd-label", has_text=name).click()


def fill(text: str) -> Callable[[Page], None]:
    return lambda page: page.locator(".pd-edit").fill(text)


SYDNEY = (AT("Sydney"), AT("Sydney") + 8)  # with the kangaroo, which is one character here and two in UTF-16

MOUSE: dict[str, Case] = {
    "compare": (compare(7), click("A is slightly better"), {"choice": -1}),
    "compare both bad": (compare(7), click("Both are bad"), {"choice": "both_bad"}),
    "rank by numbers": (rank(2), click("A: rank 2", "B: rank 1", "Submit"), {"ranks": [2, 1]}),
    "rank by drag": (
        rank(3),
        then(drag(("1", "ranked", 0.5), ("2", "1", 0.9), ("0", "1", 0.1)), click("Submit")),
        {"ranks": [1, 2, 3]},
    ),
    "rank drag ties": (
        rank(3),
        then(drag(("1", "ranked", 0.5), ("2", "1", 0.5), ("0", "2", 0.95)), click("Submit")),
        {"ranks": [2, 1, 1]},
    ),
    "rank drag out": (
        rank(3, top=1),
        then(drag(("1", "ranked", 0.5), ("2", "1", 0.9), ("1", "rest", 0.5)), click("Submit")),
        {"ranks": [None, None, 1]},
    ),
    "rank buttons": (
        rank(2),
        then(click("A: rank 1", "B: rank 2"), click("Move B up", role="button"), click("Submit")),
        {"ranks": [2, 1]},
    ),
    "rate": (rate(2), click("A: help: 7", "B: help: 1", "A: truth: 0", "B: truth: 4", "Submit"),
             {"scores": {"help": [7, 1], "truth": [0, 4]}}),
    "rate slider": (
        rate(aspects=LEVEL, input="slider"),
        then(lambda page: page.get_by_role("slider").click(), click("Submit")),
        {"scores": {"level": [50]}},
    ),
    "best": (best(), click("Choose C"), {"best": [2]}),
    "best none": (best(none=True), click("None is acceptable"), {"best": []}),
    "best two": (best(best=2), then(click("Choose D", "Choose A", role="checkbox"), click("Submit")), {"best": [0, 3]}),
    "thumbs": (fakes.task("thumbs", 1), click("A is good"), {"thumbs": [1]}),
    "thumbs two": (fakes.task("thumbs", 2), click("A is good", "B is bad", "Submit"), {"thumbs": [1, 0]}),
    "first error": (TASKS["first_error"], click("Step 4 is the first wrong one", "Submit"), {"step": 3}),
    "first error none": (TASKS["first_error"], click("There is no wrong step", "Submit"), {"step": None}),
    "spans": (
        SPANS,
        then(select(*SYDNEY), label("wrong"), select(AT("capital"), AT(" 🦘")), label("good"), click("Submit")),
        {
            "spans": [
                {"target": 0, "start": SYDNEY[0], "end": SYDNEY[1], "label": "wrong"},
                {"target": 0, "start": AT("capital"), "end": AT(" 🦘"), "label": "good"},
            ]
        },
    ),
    "edit": (TASKS["edit"], then(fill("Better."), click("Submit")), {"target": 0, "text": "Better."}),
    "edit the second": (
        fakes.task("edit", 2),
        then(click("Start from B"), fill("Better."), click("Submit")),
        {"target": 1, "text": "Better."},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MOUSE)
def test_clicks_give_the_answer(page: Page, fake: fakes.Fake, name: str) -> None:
    task, act, wanted = MOUSE[name]
    act(opened(page, fake, task))
    all_done(page)
    assert fake.answers == [wanted]


def test_a_finger_drags_by_the_grip(browser: Any, fake: fakes.Fake) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(5000)
    opened(page, fake, rank(2))
    page.locator(".pd-board").evaluate("(board) => board.scrollIntoView({block: 'center'})")
    finger = context.new_cdp_session(page)

    def touch(kind: str, *at: float) -> None:
        points = [{"x": at[0], "y": at[1]}] if at else []
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    for row, part in (("1", 0.5), ("0", 0.95)):
        grip, area = page.locator(f"[data-target='{row}'] .pd-grip").bounding_box(), page.locator(".pd-ranked")
        end = area.bounding_box()
        x, y = grip["x"] + 10, grip["y"] + 10
        touch("touchStart", x, y)
        touch("touchMove", x, y - 10)
        touch("touchMove", x, end["y"] + end["height"] * part)
        touch("touchEnd")
    page.get_by_role("button", name="Submit").click()  # a tap right after the lift would count as part of the gesture
    all_done(page)
    context.close()
    assert fake.answers == [{"ranks": [2, 1]}]


# --- beside the answer ------------------------------------------------------------------------------------------------

EXTRAS = {"rationale": "required", "confidence": True, "reasons": ["clearer", "safer"]}


def test_extras_by_keys_and_letters_that_are_no_shortcuts(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, compare(7, **EXTRAS))
    press("2", "x", "2", "Escape", "c", "4", "Enter")(page)
    assert page.evaluate("document.activeElement.matches('.pd-rationale')")  # what is missing gets the focus
    page.keyboard.type("us? gap 17 af")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    all_done(page)
    assert fake.answers == [{"choice": -2, "rationale": "us? gap 17 af", "confidence": 0.75, "reasons": ["safer"]}]
    assert {route for route, _ in fake.calls} == {"me", "next", "submit"}


def test_an_optional_rationale_leaves_one_key_enough(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, compare(3, rationale="optional"), compare(3, rationale="optional"))
    page.keyboard.press("1")
    page.get_by_placeholder("Why? (optional)").wait_for()
    while len(fake.submitted) < 1:
        page.wait_for_timeout(10)
    page.wait_for_function("!document.querySelector('.pd-bar').classList.contains('is-locked')")
    press("r")(page)
    page.keyboard.type("3 is not an answer here")
    press("Escape", "3")(page)
    all_done(page)
    assert fake.answers == [{"choice": -1}, {"choice": 1, "rationale": "3 is not an answer here"}]


def test_modified_keys_are_the_browsers(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, compare(7))
    press("Control+1", "Alt+2", "Meta+3")(page)
    page.wait_for_timeout(50)
    assert fake.submitted == []


def test_a_held_key_and_a_double_click_answer_one_task(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, compare(3), compare(3), compare(3))
    page.keyboard.down("1")
    while len(fake.submitted) < 1:
        page.wait_for_timeout(10)
    page.wait_for_function("!document.querySelector('.pd-bar').classList.contains('is-locked')")
    page.keyboard.down("1")  # the same key, still down: a repeat
    page.wait_for_timeout(100)
    page.keyboard.up("1")
    assert len(fake.submitted) == 1
    page.get_by_role("radio", name="A is better").click(click_count=2, delay=40)
    page.wait_for_timeout(200)
    assert len(fake.submitted) == 2


def test_keys_do_nothing_while_a_label_is_on_its_way(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, compare(3), rank(2))
    fake.replies["submit"] = [(503, {})]
    press("1", "3", "u", "s")(page)
    page.locator(".pd-board").wait_for()
    assert fake.answers == [{"choice": -1}]
    assert {route for route, _ in fake.calls} == {"me", "next", "submit"}


@pytest.mark.parametrize("task", [rank(3), rate(2), TASKS["first_error"], best(best=2), fakes.task("thumbs", 2)])
def test_an_unfinished_answer_is_not_sent(page: Page, fake: fakes.Fake, task: dict[str, Any]) -> None:
    opened(page, fake, task)
    page.keyboard.press("Enter")
    assert page.locator(".pd-say").inner_text() != ""
    assert fake.submitted == []


# --- never lose a label -----------------------------------------------------------------------------------------------


def keys_sent(fake: fakes.Fake) -> list[str]:
    return [body["key"] for route, body in fake.calls if route == "submit"]


def test_a_submit_is_sent_again_with_its_key(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, compare(3), compare(3))
    fake.replies["submit"] = [(503, {}), (404, {})]  # the second: a proxy that knows no such page
    fake.lost = 1  # then the server stores it, and the answer gets lost
    page.keyboard.press("1")
    page.get_by_text("Saved here. The server does not answer").wait_for()
    assert page.locator(".pd-main").evaluate("(main) => main.inert")
    page.get_by_text("Saved", exact=True).wait_for()
    assert len(keys_sent(fake)) == 4
    assert len(set(keys_sent(fake))) == 1
    assert fake.answers == [{"choice": -1}]
    routes = [route for route, _ in fake.calls]
    assert "next" not in routes[routes.index("submit") : -1]  # the next task only after the acknowledgement
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('prefdata:out:')).length") == 0


def test_a_reloaded_page_sends_what_it_had_kept(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, compare(3), rank(2))
    fake.replies["submit"] = [(500, {})] * 50
    page.keyboard.press("3")
    page.get_by_text("Saved here. The server does not answer").wait_for()
    fake.replies.clear()
    page.reload()
    page.locator(".pd-board").wait_for()  # the second task, so the first is done
    assert fake.answers == [{"choice": 1}]
    assert len(set(keys_sent(fake))) == 1
    routes = [route for route, _ in fake.calls]
    assert "release" not in routes[routes.index("submit") :]  # the task of a kept label is not given back


def test_the_gradio_page_has_nothing_that_could_lose_its_connection() -> None:
    """Gradio's reconnect dialog comes from a broken event, its heartbeat from state or an unload event."""
    from prefdata.ui.pages.label import build

    config = build(None).get_config_file()
    assert config["dependencies"] == []
    assert config["connect_heartbeat"] is False


def test_a_killed_server_leaves_the_page_usable(page: Page) -> None:
    fake = fakes.Fake()
    server = fakes.Server(fake)
    server.start()
    opened(page, fake, compare(3), rank(2), path="/label/")
    server.stop()
    page.keyboard.press("1")
    page.get_by_text("Saved here. The server does not answer").wait_for()
    page.wait_for_timeout(600)
    again = fakes.Server(fake, server.port)
    again.start()
    page.evaluate("dispatchEvent(new Event('online'))")  # else it would wait for the next try
    page.locator(".pd-board").wait_for()
    assert fake.answers == [{"choice": -1}]
    shown = page.locator("body").inner_text()
    assert not re.search("Connection (Lost|errored)|reconnect", shown, re.IGNORECASE)
    assert page.locator(".toast-wrap:visible, .toast-body:visible").count() == 0
    press("1", "2", "Enter")(page)
    all_done(page)
    again.stop()


def test_the_servers_sentence_is_shown_and_the_answer_stays(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, TASKS["edit"], compare(3))
    fake.replies["submit"] = [(422, {"say": "The text is too long."}), (409, {"say": "The guidelines have changed."})]
    fill("Mine.")(page)
    click("Submit")(page)
    page.get_by_text("The text is too long.").wait_for()
    assert page.locator(".pd-edit").input_value() == "Mine."
    click("Submit")(page)
    page.get_by_text("The guidelines have changed.").wait_for()
    assert len(set(keys_sent(fake))) == 2  # a refused label is over; what follows is a new one
    page.get_by_role("button", name="Go on").click()
    page.wait_for_function("document.querySelector('.pd-edit').value === 'Mine.'")  # the draft outlives the refusal


def test_a_draft_survives_a_reload(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, compare(3, rationale="required"))
    press("3", "r")(page)
    page.keyboard.type("because")
    page.wait_for_timeout(400)
    page.reload()
    page.get_by_role("button", name="Submit").click()
    all_done(page)
    assert fake.answers == [{"choice": 1, "rationale": "because"}]
    assert "release" in [route for route, _ in fake.calls]


def test_a_session_that_is_over_leads_to_the_sign_in(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, compare(3))
    fake.signed_in = False
    page.keyboard.press("1")
    page.get_by_text("/bare?project=1").wait_for()
    fake.signed_in = True
    page.goto(f"{fake.url}/bare?project=1")
    all_done(page)
    assert fake.answers == [{"choice": -1}]


# --- around the task --------------------------------------------------------------------------------------------------


def test_undo_opens_the_last_label_and_corrects_it(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, compare(7, rationale="optional"), rank(2))
    press("r")(page)
    page.keyboard.type("first")
    press("Escape", "2")(page)
    page.locator(".pd-board").wait_for()
    page.keyboard.press("u")
    page.get_by_text("You are correcting").wait_for()
    assert page.get_by_role("radio", name="A is clearly better").get_attribute("aria-checked") == "true"
    assert page.get_by_placeholder("Why? (optional)").input_value() == "first"
    page.keyboard.press("6")
    page.locator(".pd-board").wait_for()
    assert fake.answers == [{"choice": -2, "rationale": "first"}, {"choice": 2, "rationale": "first"}]


RESTORED: dict[str, dict[str, Any]] = {
    "compare": {"choice": 0},
    "rank": {"ranks": [2, 1, 1, 3]},
    "rate": {"scores": {"helpfulness": [1, 2], "correctness": [0, 4], "style": [5, 1]}},
    "best": {"best": []},
    "thumbs": {"thumbs": [0]},
    "first_error": {"step": None},
    "spans": {"spans": [{"target": 0, "start": AT("🦘"), "end": AT(", which"), "label": "good"}]},
    "edit": {"target": 0, "text": "Shorter."},
}


@pytest.mark.parametrize("protocol", RESTORED)
def test_an_answer_opened_again_is_the_same_answer(page: Page, fake: fakes.Fake, protocol: str) -> None:
    task = TASKS[protocol]
    opened(page, fake, {**task, "answer": RESTORED[protocol], "revision": 1})
    page.keyboard.press("Enter")
    all_done(page)
    assert fake.answers == [RESTORED[protocol]]


def test_my_labels_opens_an_earlier_one(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, compare(3), compare(3), rank(2))
    page.keyboard.press("1")
    while len(fake.submitted) < 1:
        page.wait_for_timeout(10)
    page.wait_for_function("!document.querySelector('.pd-bar').classList.contains('is-locked')")
    page.keyboard.press("3")
    page.locator(".pd-board").wait_for()
    page.keyboard.press("m")
    page.locator(".pd-mine-row").nth(1).wait_for()
    press("j", "Enter")(page)  # newest first: the second row is the first label
    page.get_by_text("You are correcting").wait_for()
    page.keyboard.press("2")
    page.locator(".pd-board").wait_for()
    assert fake.submitted[-1]["task"] == 1
    assert fake.answers[-1] == {"choice": 0}


def test_skip_ask_and_flag(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, compare(3), compare(3), compare(3))
    press("s", "Enter")(page)  # the first Enter chooses the reason that has the focus
    page.keyboard.press("Enter")
    page.locator("dialog").wait_for(state="detached")
    page.wait_for_function("!document.querySelector('.pd-bar').classList.contains('is-locked')")
    page.keyboard.press("a")
    page.keyboard.type("Does 1 count? us")
    page.keyboard.press("Control+Enter")
    page.get_by_text("Your question is with the lead.").wait_for()
    page.keyboard.press("f")
    page.keyboard.type("It is empty.")
    page.get_by_role("button", name="Flag", exact=True).last.click()
    all_done(page)
    sent = {route: body for route, body in fake.calls if route in ("skip", "ask", "flag")}
    assert sent["skip"]["task"] == 1
    assert sent["skip"]["reason"] == "I do not know enough about this"
    assert sent["skip"]["key"]
    assert sent["ask"] == {"task": 2, "text": "Does 1 count? us"}
    assert sent["flag"] == {"task": 3, "reason": "It is empty."}
    assert fake.submitted == []


@pytest.mark.parametrize("protocol", TASKS)
def test_the_help_lists_the_keys_of_the_protocol(page: Page, fake: fakes.Fake, protocol: str) -> None:
    opened(page, fake, TASKS[protocol])
    page.keyboard.press("?")
    rows = page.locator(".pd-keys tr").all_inner_texts()
    text = "\n".join(rows)
    own = {"compare": "both are bad", "rank": "tie with the one above", "rate": "rate the row", "best": "none is",
           "thumbs": "good", "first_error": "no step is wrong", "spans": "next marked place",
           "edit": "what was changed"}  # fmt: skip
    assert own[protocol] in text
    assert "undo" in text
    for other in set(own) - {protocol, "thumbs"}:
        assert own[other] not in text
    page.keyboard.press("?")
    page.locator("dialog").wait_for(state="detached")


def test_guidelines_are_acknowledged_first(page: Page, fake: fakes.Fake) -> None:
    fake.reset(compare(3))
    guideline = {"label": "helpfulness@9", "html": "<p>Length does not count.</p>", "previous": True}
    fake.replies["next"] = [(200, {"state": "acknowledge", "guideline": guideline})]
    page.goto(f"{fake.url}/bare")
    page.get_by_text("The guidelines have changed").wait_for()
    page.keyboard.press("Enter")
    page.locator(".pd-compare").wait_for()
    assert ("acknowledge", {"project": 1, "label": "helpfulness@9"}) in fake.calls
    page.keyboard.press("g")
    page.get_by_text("Prefer the response that solves").wait_for()


def to_read(fake: fakes.Fake, previous: bool = False) -> None:
    guideline = {"label": "helpfulness@9", "html": "<p>Length does not count.</p>", "previous": previous}
    fake.replies["next"] = [(200, {"state": "acknowledge", "guideline": guideline})]


TAPS = """([x, y, kind]) => { const hit = () => { const at = document.elementFromPoint(x, y);
    for (const type of ["pointerdown", "click"]) at.dispatchEvent(new PointerEvent(type,
        {bubbles: true, cancelable: true, composed: true, detail: 1, clientX: x, clientY: y, pointerType: kind})); };
    hit(); const seen = new MutationObserver(() => { if (document.querySelector(".pd-compare")) { seen.disconnect();
        window.answers = document.querySelectorAll(".pd-bar .pd-option").length;
        for (const one of document.querySelectorAll(".pd-bar .pd-option")) one.dispatchEvent(
            new PointerEvent("click", {bubbles: true, cancelable: true, detail: 1, pointerType: kind})); } });
    seen.observe(document.body, {subtree: true, childList: true}); }"""
"""A tap; and as soon as the task is there another one, on every answer: each is a click of its own for the browser."""


def test_a_second_tap_on_what_was_read_answers_nothing(page: Page, fake: fakes.Fake) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    fake.reset(compare(3), compare(3))
    to_read(fake)
    page.goto(f"{fake.url}/bare?project=1")
    box = page.get_by_role("button", name="I have read them").bounding_box()
    assert box is not None
    page.evaluate(TAPS, [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, "touch"])
    page.locator(".pd-compare").wait_for()
    page.wait_for_timeout(100)
    assert page.evaluate("window.answers") > 2
    assert fake.submitted == []
    page.wait_for_timeout(600)
    page.locator(".pd-bar .pd-option").first.click()  # after a moment a tap is a tap
    while len(fake.submitted) < 1:
        page.wait_for_timeout(10)


def test_the_key_that_went_on_does_not_answer_but_others_do(page: Page, fake: fakes.Fake) -> None:
    fake.reset({**compare(3), "warning": "Violence is described."})
    to_read(fake)
    page.goto(f"{fake.url}/bare?project=1")
    page.get_by_text("Length does not count.").wait_for()
    page.keyboard.press("Enter")
    page.locator(".pd-veil").wait_for()
    page.keyboard.press("Enter")  # would show the task in spite of its warning
    page.wait_for_timeout(50)
    assert page.locator(".pd-veil").count() == 1
    page.keyboard.press("?")
    page.locator("dialog").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_timeout(600)
    press("Enter", "1")(page)
    all_done(page)


def test_how_to_find_the_guidelines_again_is_said_for_the_device(page: Page, fake: fakes.Fake) -> None:
    fake.reset(compare(3))
    to_read(fake)
    page.goto(f"{fake.url}/bare?project=1")
    said = page.locator(".pd-guidelines .pd-hint")
    assert said.inner_text().endswith("at any time with g.")
    page.set_viewport_size({"width": 390, "height": 844})
    assert said.inner_text().endswith("at any time in the menu.")


def test_questions_of_the_qualification_are_counted_from_one(page: Page, fake: fakes.Fake) -> None:
    task = compare(3)
    opened(page, fake, {**task, "progress": {"done": 0, "quota": None, "qualifying": {"n": 0, "of": 2}}})
    assert page.locator(".pd-progress").inner_text() == "Qualification: question 1 of 2"
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.locator(".pd-progress").inner_text() == "question 1 of 2"


def test_the_key_on_a_dialogs_button_works_in_its_field(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, compare(3))
    page.keyboard.press("a")
    assert page.locator("dialog .pd-primary kbd").inner_text() == "Ctrl+Enter"
    page.keyboard.type("first")
    page.keyboard.press("Enter")
    page.keyboard.type("second")
    page.keyboard.press("Control+Enter")
    page.locator("dialog").wait_for(state="detached")
    assert [body["text"] for route, body in fake.calls if route == "ask"] == ["first\nsecond"]


REVIEW = """async ([root, task]) => { const { stage } = await import(`${root}/static/review.js`);
    window.sent = [];
    document.body.innerHTML = "<button id=outside>Next</button><div id=place></div>";
    document.querySelector("#outside").onclick = () => (window.pressed = (window.pressed ?? 0) + 1);
    const show = stage(document.querySelector("#place"), root, (answer) => window.sent.push(answer));
    await show({ task, said: [], verdicts: [] });
}"""


def test_enter_submits_a_verdict_after_a_button_beside_it_was_used(page: Page, fake: fakes.Fake) -> None:
    page.goto(f"{fake.url}/static/label.css")  # a page without keys of its own
    page.evaluate(REVIEW, [fake.url, rank(3)])
    page.locator("#outside").click()
    page.locator("#outside").focus()  # as if by the tab key: it is still the page's
    page.keyboard.press("Enter")
    assert page.evaluate("window.pressed") == 2
    press("2", "1", "3", "Enter")(page)
    assert page.evaluate("window.pressed") == 2
    assert page.evaluate("window.sent.map((one) => one.answer)") == [{"ranks": [2, 1, 3]}]


def test_a_warning_hides_the_task_and_its_keys(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, {**compare(3), "warning": "Violence is described."})
    page.get_by_text("Violence is described.").wait_for()
    assert not page.locator(".pd-card").first.is_visible()
    press("1", "2")(page)
    assert fake.submitted == []
    press("Enter", "2")(page)
    all_done(page)
    assert fake.answers == [{"choice": 0}]


def test_feedback_on_gold_waits_for_the_person(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, compare(3))
    fake.feedback = {"html": "<p>B names the cause.</p>", "right": False}
    page.keyboard.press("1")
    page.get_by_text("B names the cause.").wait_for()
    page.keyboard.press("Enter")
    all_done(page)


def test_plain_text_is_remembered_and_markup_stays_text(page: Page, fake: fakes.Fake) -> None:
    attack = "<img src=x onerror='window.caught = 1'><b>bold</b>"
    hostile = fakes.target("A", attack, html="<p>safe</p>")
    opened(page, fake, fakes.task("compare", [hostile, fakes.target("B", "<script>window.caught = 1</script>")]))
    page.keyboard.press("p")
    assert attack in page.locator(".pd-card").first.inner_text()
    page.reload()
    page.locator(".pd-card").first.wait_for()
    assert attack in page.locator(".pd-card").first.inner_text()
    assert page.evaluate("window.caught") is None
    assert page.locator(".pd-card img").count() == 0


def test_conversation_passages_and_pictures_are_shown(page: Page, fake: fakes.Fake) -> None:
    turns = [{"role": role, **fakes.text(said)} for role, said in (("system", "Be brief."), ("user", "Why?"))]
    prompt = {
        "turns": turns,
        "passages": [{"title": "Page 7", **fakes.text("Because of the seam.")}],
        "media": [{"url": "media/p1/0", "alt": "a loaf"}],
    }
    answer = fakes.target("B", "", turns=[{"role": "assistant", **fakes.text("So it is.")}])
    opened(page, fake, fakes.task("compare", [fakes.target("A", "It is."), answer], prompt=prompt))
    assert page.locator(".pd-prompt .pd-role").all_inner_texts() == ["Instructions", "Person"]
    assert "Because of the seam." in page.get_by_label("Passage", exact=True).inner_text()
    assert page.locator(".pd-picture img").get_attribute("src") == "/media/p1/0"
    assert "So it is." in page.get_by_label("Response B").inner_text()
    page.get_by_role("button", name="Enlarge: a loaf").click()
    page.locator("dialog img").wait_for(state="attached")
    page.keyboard.press("1")  # behind a dialog keys do nothing
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    assert fake.submitted == []


def test_states_without_a_task(page: Page, fake: fakes.Fake) -> None:
    fake.reset()
    fake.empty = {"state": "paused", "say": "The lead has paused you."}
    page.goto(f"{fake.url}/bare")
    page.get_by_text("The lead has paused you.").wait_for()
    fake.queue = [{**compare(3), "id": 1}]
    page.keyboard.press("Enter")
    page.locator(".pd-compare").wait_for()


def test_projects_can_be_changed(page: Page, fake: fakes.Fake) -> None:
    fake.reset(compare(3))
    fake.projects = [fakes.project(1, "one"), fakes.project(2, "two")]
    page.goto(f"{fake.url}/bare")
    page.get_by_role("combobox", name="Project").select_option("two")
    page.wait_for_function("document.querySelector('.pd-compare')")
    while ("next", {"project": "2"}) not in fake.calls:
        page.wait_for_timeout(10)


# --- time, positions, names -------------------------------------------------------------------------------------------


def test_active_seconds_leave_idle_time_out(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake)
    counted = page.evaluate("""async () => {
      const { Activity } = await import("/static/active.js");
      let now = 100;
      const clock = new Activity(() => now);
      clock.start(60);
      now += 20; clock.touch();             // 20
      now += 3600; clock.touch();           // 60 of the hour count: the cut-off
      now += 5; clock.hide();               // 5, then a hidden page
      now += 500; const hidden = clock.seconds;
      clock.touch(); now += 10;             // 10 since the page is seen again
      return [hidden, clock.seconds, clock.alive, (now += 100, clock.alive)];
    }""")
    assert counted == [85, 95, True, False]


def test_the_lease_is_renewed_while_active_and_given_back(browser: Any, fake: fakes.Fake) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.clock.install()
    opened(page, fake, compare(3))
    page.clock.fast_forward(30_000)
    page.mouse.move(200, 200)
    page.clock.fast_forward(30_500)  # the first beat, half a minute after the last sign of life
    page.clock.fast_forward(61_000)  # the second: nobody is there
    page.goto("about:blank")
    page.wait_for_timeout(200)
    context.close()
    [alive] = [body for route, body in fake.calls if route == "alive"]
    assert alive["task"] == 1
    assert 60 <= alive["seconds"] <= 62
    assert ("release", {"task": 1}) in fake.calls


def test_the_label_carries_its_seconds_and_guideline(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake, compare(3))
    page.wait_for_timeout(120)
    page.keyboard.press("1")
    all_done(page)
    [body] = fake.submitted
    assert 0.1 <= body["seconds"] < 60
    assert body["guideline"] == "helpfulness@1a2b3c"
    assert set(body) == {"task", "key", "answer", "seconds", "guideline"}


def test_positions_are_code_points(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake)
    texts = ["plain", "a🦘b", "👩‍👩‍👧 family", "e\u0301te\u0301", "한국어 글", "\ud83d", ""]
    found = page.evaluate(
        """async (texts) => {
      const { toPoints, toUnits } = await import("/static/words.js");
      return texts.map((text) => {
        const ends = [...text].map((_, i) => toUnits(text, i + 1));
        return [toPoints(text, text.length), ends.map((end) => toPoints(text, end))];
      });
    }""",
        texts[:5] + texts[6:],
    )
    for text, (length, ends) in zip(texts[:5] + texts[6:], found, strict=True):
        assert length == len(text)
        assert ends == list(range(1, len(text) + 1))


def test_the_word_difference_adds_up(page: Page, fake: fakes.Fake) -> None:
    opened(page, fake)
    parts = page.evaluate("""async () => {
      const { changes } = await import("/static/words.js");
      return changes("the red  house is old\\n", "a red house is very old\\n");
    }""")
    text = {
        kind: "".join(part["text"] for part in parts if part["kind"] in ("same", kind)) for kind in ("added", "deleted")
    }
    assert text == {"added": "a red house is very old\n", "deleted": "the red  house is old\n"}
    assert "very" in [part["text"].strip() for part in parts if part["kind"] == "added"]


@pytest.mark.parametrize("width", [360, 1280])
def test_the_layout_fits_and_everything_has_a_name(page: Page, fake: fakes.Fake, width: int) -> None:
    """In Gradio's frame, whose style sheet must not reach in."""
    page.set_viewport_size({"width": width, "height": 740})
    opened(page, fake, *TASKS.values(), path="/label/")
    for protocol in TASKS:
        page.locator(f".pd-is-{protocol}").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, protocol
        unnamed = page.evaluate("""() => [...document.querySelectorAll(".pd :is(button, input, textarea, summary)")]
          .filter((node) => !(node.getAttribute("aria-label") || node.textContent.trim()))
          .map((node) => node.className)""")
        assert unnamed == []
        if width < 900:
            small = page.evaluate("""() => [...document.querySelectorAll(".pd :is(button, summary, input)")]
              .map((node) => [node.className, node.getBoundingClientRect()])
              .filter(([, box]) => box.width > 0 && (box.height < 44 || box.width < 43)).map(([name]) => name)""")
            assert small == [], protocol
        press("s", "1", "Enter")(page)
    all_done(page)
