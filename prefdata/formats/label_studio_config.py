"""The labelling interface of a Label Studio project, as XML that names every control that our tasks use."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from prefdata.formats.answers import TIE, Control
from prefdata.formats.asked import Asked

MOST_STARS = 10
ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""What no XML file can hold, not even escaped."""


def scale(asked: Asked, control: Control) -> str:
    """`rating` (stars) where all scores are whole and from 1 to 10, else `number`."""
    return "rating" if all(score in range(1, MOST_STARS + 1) for score in asked.controls[control]) else "number"


def tie_name(control: Control) -> str:
    """Of the control beside a Pairwise, which knows no ties."""
    return control.name.replace("compare_", f"{TIE}_", 1)


def config_xml(asked: Asked) -> str:
    """The configuration.

    Args:
        asked: what the tasks ask.
    """
    view = ET.Element("View")
    ET.SubElement(
        view, "Paragraphs", name="prompt", value="$messages", layout="dialogue", nameKey="role", textKey="content"
    )
    controls = asked.in_order()
    for control in controls:
        if control.kind == "spans":  # stand above the text that they mark
            _add(view, control, asked)
    for place in range(1, asked.responses + 1):
        ET.SubElement(view, "Header", value=f"Response {place}")
        ET.SubElement(view, "Text", name=f"response_{place}", value=f"$response_{place}", valueType="text")
    if any(control.kind == "rank" for control in controls):
        ET.SubElement(view, "List", name="responses", value="$responses", title="Responses")
    for control in controls:
        if control.kind != "spans":
            _add(view, control, asked)
    ET.indent(view)
    return ILLEGAL.sub("\ufffd", ET.tostring(view, encoding="unicode")) + "\n"


def _add(view: ET.Element, control: Control, asked: Asked) -> None:
    name, about, values = control.name, asked.object_of(control), asked.controls[control]
    ET.SubElement(view, "Header", value=asked.title(control))
    if control.kind == "compare":
        ET.SubElement(view, "Pairwise", name=name, toName="response_1,response_2")
        tie = ET.SubElement(view, "Choices", name=tie_name(control), toName=about, choice="single")
        ET.SubElement(tie, "Choice", value=TIE)
    elif control.kind == "rank":
        ET.SubElement(view, "Ranker", name=name, toName=about)
    elif control.kind == "score" and scale(asked, control) == "rating":
        most = 5 if max(values) <= 5 else MOST_STARS
        ET.SubElement(view, "Rating", name=name, toName=about, maxRating=str(most))
    elif control.kind == "score":
        ET.SubElement(view, "Number", name=name, toName=about, step="any")
    elif control.kind == "text":
        ET.SubElement(view, "TextArea", name=name, toName=about, editable="true", rows="3")
    else:
        tag, each = ("Labels", "Label") if control.kind == "spans" else ("Choices", "Choice")
        held = ET.SubElement(view, tag, name=name, toName=about)
        if control.kind == "label":
            held.set("choice", "multiple")
        for label in asked.labels(control):
            ET.SubElement(held, each, value=label)
