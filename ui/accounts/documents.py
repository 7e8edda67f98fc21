"""The small pages that are not Gradio's: signing in, invitations, refusals. Plain HTML, no script."""

from __future__ import annotations

from html import escape

STRICT = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; manifest-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""Their Content-Security-Policy: they need nothing but a style sheet."""


def document(title: str, body: str, *, root: str) -> str:
    """A whole page.

    Args:
        title: plain text.
        body: HTML.
        root: the root path that the browser sees.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>{escape(title)} · prefdata</title>
<link rel="icon" href="{escape(root)}/favicon.ico">
<link rel="stylesheet" href="{escape(root)}/static/signin.css">
</head>
<body>
<main>
<p class="brand"><span aria-hidden="true">◧</span> prefdata</p>
<h1>{escape(title)}</h1>
{body}
</main>
</body>
</html>
"""


def message(title: str, say: str, *, root: str, onward: tuple[str, str] | None = None) -> str:
    """A page that says one thing.

    Args:
        title: plain text.
        say: one sentence or two, plain text.
        root: the root path that the browser sees.
        onward: a link's address below the root, and its words.
    """
    link = f'<p><a class="button" href="{escape(root + onward[0])}">{escape(onward[1])}</a></p>' if onward else ""
    return document(title, f"<p>{escape(say)}</p>{link}", root=root)


def welcome(pseudonym: str, *, lead: bool = False) -> str:
    """What an invitation says to whoever takes it up, as HTML.

    Args:
        pseudonym: theirs.
        lead: they are the first one here: nobody has invited them.
    """
    name = f"<strong>{escape(pseudonym)}</strong>"
    if lead:
        return (
            "<p>You are the first here, so you are the lead. Choose a sign-in name and a password.</p>"
            f"<p>Should you label yourself, your labels will carry the name {name}.</p>"
        )
    return (
        f"<p>You were invited to label. Your labels will carry the name {name}; your sign-in name is seen by the lead "
        "of the project only.</p>"
    )


def field(
    name: str, label: str, *, kind: str = "text", complete: str, value: str = "", hint: str = "", more: str = ""
) -> str:
    """One labelled field of a form.

    Args:
        name: under which it is sent.
        label: plain text.
        kind: text or password.
        complete: the autocomplete attribute, by which password managers know it.
        value: what stands in it.
        hint: plain text below it.
        more: further attributes, as HTML.
    """
    described = f' aria-describedby="{name}-hint"' if hint else ""
    below = f'<p class="hint" id="{name}-hint">{escape(hint)}</p>' if hint else ""
    return (
        f'<label for="{name}">{escape(label)}</label>'
        f'<input id="{name}" name="{name}" type="{kind}" autocomplete="{complete}" value="{escape(value)}" '
        f'autocapitalize="none" autocorrect="off" spellcheck="false" required{described} {more}>{below}'
    )


def form(action: str, fields: str, button: str, *, error: str = "", hidden: dict[str, str] | None = None) -> str:
    """A form with its error, which screen readers are told at once.

    Args:
        action: where it is sent, below the root or with it.
        fields: HTML of `field`.
        button: its words.
        error: a sentence, or "".
        hidden: values that go with it.
    """
    kept = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in (hidden or {}).items()
    )
    said = (
        f'<p class="error" role="alert">{escape(error)}</p>' if error else '<p class="error" role="alert" hidden></p>'
    )
    return (
        f'<form method="post" action="{escape(action)}">{said}{kept}{fields}'
        f'<button type="submit">{escape(button)}</button></form>'
    )
