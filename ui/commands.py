"""The commands of the labelling application: `prefdata ui`, `tasks`, `people`, `labels`.

The command line finds them by an entry point and calls `register`; nothing heavy is imported before one is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .service import Service

Folder = Annotated[Path, typer.Argument(help="The dataset's folder.", show_default=False)]
StoreUrl = Annotated[
    str | None,
    typer.Option("--store", help="Where labels are kept: postgresql+psycopg://... instead of DIR/labels.sqlite."),
]

tasks = typer.Typer(help="What people label: projects and their tasks.", no_args_is_help=True)
people = typer.Typer(help="Who labels: accounts and invitations.", no_args_is_help=True)
labels = typer.Typer(help="What people said: into the dataset, hours, back-up.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands to prefdata's."""
    app.command("ui")(serve)
    app.add_typer(tasks, name="tasks")
    app.add_typer(people, name="people")
    app.add_typer(labels, name="labels")


@contextmanager
def _service(dataset: Path, store: str | None, *, make: bool = False) -> Iterator[Service]:
    from prefdata.errors import DataError

    from .service import Service

    if not make and not dataset.exists():
        raise DataError(f"there is no folder {dataset}")
    service = Service.open(dataset, store)
    try:
        yield service
    finally:
        service.close()


def serve(
    dataset: Folder,
    host: Annotated[str, typer.Option(help="127.0.0.1: this machine only; 0.0.0.0: everybody who reaches it.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="The port.")] = 7860,
    root_path: Annotated[str, typer.Option(help="The path under which a proxy shows the application.")] = "",
    store: StoreUrl = None,
    arena: Annotated[
        Path | None, typer.Option(help="A YAML file with `engines:` of at least two models: people vote on them.")
    ] = None,
    pull_every: Annotated[float, typer.Option(help="Seconds after which new labels go into the dataset.")] = 20.0,
) -> None:
    """Start the labelling application; an empty dataset is made where there is none.

    Example: `prefdata ui runs/mine`
    """
    from .web.app import checked_root
    from .web.app import serve as serve_app

    root_path = checked_root(root_path)
    with _service(dataset, store, make=True) as service:
        if arena is not None:
            from .arena.arena import Arena

            service.arena = Arena.open(service, arena)
        shown = f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0', '::') else host}:{port}{root_path}"  # noqa: S104
        token = service.people.first_admin()
        if token is not None:
            typer.echo(f"first, make your account (the link works once): {shown}/invite/{token}")
        typer.echo(f"labelling {dataset} at {shown} (Ctrl-C ends it)")
        service.pull.start(pull_every, lambda message: typer.echo(message, err=True))
        serve_app(service, host, port, root_path)
        done = service.pull()
        if done.labels:
            typer.echo(f"{done.labels:,} labels went into the dataset")


# Projects


@tasks.command("create", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def create(
    context: typer.Context,
    dataset: Folder,
    name: Annotated[str, typer.Option(help="Of the project.")],
    file: Annotated[Path | None, typer.Option(help="Tasks from a file: prompts with responses.")] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file with any of the fields.")] = None,
    store: StoreUrl = None,
) -> None:
    """Set up a project; or, with the same fields again, add tasks for prompts that are new.

    Every field of the set-up page is an option: `--protocol rank --card honesty --overlap 3 --people ann-01,ann-02`;
    `prefdata tasks fields` lists them.

    Example: `prefdata tasks create runs/mine --name helpful --protocol compare --overlap 2`
    """
    fields = {**_config(config), **_fields(context.args), "name": name}
    with _service(dataset, store, make=file is not None) as service:
        if file is not None:
            typer.echo(service.projects.upload(file))
            fields["file"] = file.name
        held, added = service.projects.create(fields)
        typer.echo(f"project {held.project.name}: {added:,} tasks added, labelled under {held.guideline}")


@tasks.command("fields")
def fields() -> None:
    """List the fields of a project, which are the options of `tasks create`.

    Example: `prefdata tasks fields`
    """
    from .work.project import Project

    for name, field in Project.model_fields.items():
        default = "" if field.is_required() else f" [{_shown(field.default)}]"
        typer.echo(f"--{name.replace('_', '-')}{default}  {field.description}")


@tasks.command("show")
def show(dataset: Folder, store: StoreUrl = None) -> None:
    """Say how far each project is.

    Example: `prefdata tasks show runs/mine`
    """
    with _service(dataset, store) as service:
        projects = service.projects.list()
        for held in projects:
            count = service.projects.progress(held.id)
            typer.echo(
                f"{held.project.name} ({held.project.protocol}, {held.state}, {held.guideline}): "
                f"{count['labels']:,} of {count['wanted']:,} labels on {count['tasks']:,} tasks by {count['people']:,} "
                f"people; {count['skipped']:,} skipped, {count['withdrawn']:,} withdrawn, {count['leased']:,} being "
                f"worked on, {count['gold_labels']:,} answers to {count['gold']:,} gold questions"
            )
        if not projects:
            typer.echo("no project yet: prefdata tasks create, or the page")


def _config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    import yaml

    from prefdata.errors import DataError

    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"config: there is no file {path}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"config: {path} is not YAML: {error}") from error
    if not isinstance(given, dict):
        raise DataError(f"config: {path} holds no fields (name: value)")
    return given


def _fields(arguments: list[str]) -> dict[str, Any]:
    """Options that are a project's fields, by name; texts become lists where a field is one."""
    from prefdata.pipeline.registry import nearest

    from .work.project import LISTS, Project

    made: dict[str, Any] = {}
    left = list(arguments)
    while left:
        option = left.pop(0)
        word, equals, value = option.partition("=")
        name = word.removeprefix("--").replace("-", "_")
        switched = name.removeprefix("no_")
        if not word.startswith("--") or (name not in Project.model_fields and switched not in Project.model_fields):
            known = nearest(name, Project.model_fields)
            raise typer.BadParameter(f"a project has no field {option!r}{known}: see `prefdata tasks fields`")
        if Project.model_fields.get(name, Project.model_fields[switched]).annotation is bool and not equals:
            made[switched] = name == switched
            continue
        if not equals:
            if not left:
                raise typer.BadParameter(f"{word} needs a value")
            value = left.pop(0)
        made[name] = tuple(one.strip() for one in value.split(",") if one.strip()) if name in LISTS else value
    return made


def _shown(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)


# People


@people.command("add")
def add(
    dataset: Folder,
    count: Annotated[int, typer.Option(help="So many people.", min=1, max=1000)] = 1,
    pseudonym: Annotated[str | None, typer.Option(help="What exports show; made up unless given.")] = None,
    role: Annotated[str, typer.Option(help="annotator, reviewer or admin.")] = "annotator",
    groups: Annotated[str, typer.Option(help="Groups, with commas.")] = "",
    skills: Annotated[str, typer.Option(help="Skills and languages, with commas.")] = "",
    address: Annotated[str, typer.Option(help="Where the application is, for the link.")] = "http://localhost:7860",
    store: StoreUrl = None,
) -> None:
    """Add people; each gets an invitation link, which works once.

    Example: `prefdata people add runs/mine --count 12`
    """
    if pseudonym is not None and count > 1:
        raise typer.BadParameter("--pseudonym names one person: leave --count out")
    with _service(dataset, store) as service:
        for _ in range(count):
            person = service.people.add(
                pseudonym if count == 1 else None, role, groups=_words(groups), skills=_words(skills)
            )
            token = service.people.invite(person.person_id)
            typer.echo(f"{person.pseudonym}\t{person.role}\t{_link(address, token)}")


@people.command("invite")
def invite(
    dataset: Folder,
    pseudonym: Annotated[str, typer.Argument(help="Whom.")],
    address: Annotated[str, typer.Option(help="Where the application is, for the link.")] = "http://localhost:7860",
    store: StoreUrl = None,
) -> None:
    """Make a new invitation link for somebody who has not signed in yet; an older one no longer works.

    Example: `prefdata people invite runs/mine ann-03`
    """
    with _service(dataset, store) as service:
        typer.echo(_link(address, service.people.invite(service.people.named(pseudonym).person_id)))


@people.command("reset")
def reset(
    dataset: Folder,
    pseudonym: Annotated[str, typer.Argument(help="Whose.")],
    address: Annotated[str, typer.Option(help="Where the application is, for the link.")] = "http://localhost:7860",
    store: StoreUrl = None,
) -> None:
    """End somebody's sessions and make a link with which they choose a new password.

    Example: `prefdata people reset runs/mine ann-03`
    """
    with _service(dataset, store) as service:
        typer.echo(_link(address, service.people.reset(service.people.named(pseudonym).person_id)))


def _link(address: str, token: str) -> str:
    """An invitation link; an address without a scheme is one behind TLS."""
    return f"{address if '://' in address else f'https://{address}'}".rstrip("/") + f"/invite/{token}"


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


# Labels


@labels.command("pull")
def pull(dataset: Folder, store: StoreUrl = None) -> None:
    """Commit new labels as annotations by human:PSEUDONYM. A label is taken once; a correction is a revision.

    Example: `prefdata labels pull runs/mine`
    """
    with _service(dataset, store) as service:
        done = service.pull()
        typer.echo(
            f"{done.labels:,} labels pulled: {done.annotations:,} annotations, {done.withdrawn:,} taken back"
            if done.labels
            else "no new labels"
        )
        for sentence in done.aside:
            typer.echo(sentence, err=True)


@labels.command("hours")
def hours(
    dataset: Folder,
    out: Annotated[Path | None, typer.Option(help="A CSV file; otherwise it is printed.")] = None,
    store: StoreUrl = None,
) -> None:
    """Active minutes of each person by week, for pay. Idle time is not counted; the cut-off stands in each row.

    Example: `prefdata labels hours runs/mine --out hours.csv`
    """
    from .quality.hours import csv
    from .quality.hours import hours as count

    with _service(dataset, store) as service:
        text = csv(count(service.store))
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
        typer.echo(f"{out} written")


@labels.command("backup")
def backup(
    dataset: Folder,
    out: Annotated[str, typer.Option(help="A new file, or the URL of an empty database.")],
    store: StoreUrl = None,
) -> None:
    """Copy the label store as it is at this moment, while it is in use. To restore, put the copy in its place.

    Example: `prefdata labels backup runs/mine --out labels-monday.sqlite`
    """
    with _service(dataset, store) as service:
        counted = service.store.backup(out)
    typer.echo(f"{out}: {counted['labels']:,} labels, {counted['tasks']:,} tasks, {counted['people']:,} people")
