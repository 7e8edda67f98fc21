"""The page in which people label: an empty Gradio page; `static/label.js` draws it and talks to the JSON routes.

The page has no Gradio event and no state on purpose: Gradio then opens no heartbeat stream and joins no queue, so a
server that is killed and started again leaves the page as it is. The script itself waits and sends again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

if TYPE_CHECKING:
    import gradio as gr

SHELL = '<div class="pd" id="prefdata-label"><p class="pd-loading" role="status">Loading …</p></div>'

# The page stands at ROOT/label/; ROOT is known only in the browser where a proxy puts a path before it.
START = """
const here = window.location.pathname;
const root = here.slice(0, Math.max(here.lastIndexOf("/label"), 0));
const place = element.querySelector("#prefdata-label");
import(new URL(root + "/static/label.js", window.location.origin).href)
  .then((page) => page.mount(place, root))
  .catch((error) => {
    console.error(error);
    place.textContent = "The page could not be loaded. Please reload it in a moment.";
  });
"""


def build(service: object) -> gr.Blocks:
    """The labelling page, to be mounted at `/label`.

    Args:
        service: What the pages do (`ui/service.py`). This page asks only the JSON routes, which check who asks.
    """
    import gradio as gr

    page = gr.Blocks(title="Label · prefdata", fill_width=True, analytics_enabled=False)
    with page:
        gr.HTML(value="", html_template=SHELL, js_on_load=START, apply_default_css=False)
    return page
