"""The page on which a lead runs projects: set-up, progress and guidelines, people, hours, back-up.

Every event asks again who is there (`Desk.on`): Gradio offers each of them to whoever can reach the page.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import admin_hours, admin_people, admin_projects, admin_setup
from .admin_parts import Desk

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

if TYPE_CHECKING:
    from ..service import Service

STYLE = '<link rel="stylesheet" href="../static/admin.css">'


def build(service: Service) -> gr.Blocks:
    """The admin page, to be mounted at `/admin`.

    Args:
        service: the application.
    """
    with gr.Blocks(title="Admin · prefdata", fill_width=True, analytics_enabled=False) as page:
        gr.HTML(STYLE, padding=False)
        desk = Desk(service)
        with gr.Tabs(elem_id="pa-tabs"):
            with gr.Tab("Set-up") as setup:
                admin_setup.build(desk).refresh(setup)
            with gr.Tab("Projects") as projects:
                admin_projects.build(desk).refresh(projects)
            with gr.Tab("People") as people:
                accounts = admin_people.build(desk)
                accounts.refresh(people)
            with gr.Tab("Hours") as hours:
                admin_hours.HoursTab(desk).refresh(hours)
            with gr.Tab("Back-up") as keep:
                admin_hours.KeepTab(desk).refresh(keep)
        accounts.at_load(page)
        for handler, outputs in desk.loads:
            desk.on(page.load, handler, [], outputs)
    made: gr.Blocks = page
    return made
