"""What all Gradio pages share: one look and one navigation bar."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing leaves the machine

if TYPE_CHECKING:
    import gradio as gr

HEAD = (
    '<meta name="color-scheme" content="light dark"><link rel="icon" href="../favicon.ico">'
    '<script src="../static/frame.js" defer></script>'
)
"""In the head of the pages: the navigation bar comes from there, so that no page has to draw it.

Addresses are relative to the page, so that a proxy's path before ours does not matter.
"""


def theme() -> gr.themes.Base:
    """The look of all pages: the fonts of the machine, since others would have to be fetched from elsewhere."""
    import gradio as gr

    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    made: gr.themes.Base = gr.themes.Default(
        primary_hue="blue", secondary_hue="slate", neutral_hue="slate", font=sans, font_mono=mono
    )
    return made
