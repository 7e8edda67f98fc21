"""The list of commands. Each stands in the module named after what it works on."""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

from prefdata.cli import care, data, evaluating, losses, models, runs, serve, show, training

app = typer.Typer(
    name="prefdata",
    help="Make preference datasets and train on them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

commands = (runs.run, runs.plan, show.show, runs.reparse, data.sql, data.export, training.train, data.report)
for command in commands:
    app.command()(command)
app.command()(evaluating.evaluate)
app.command()(evaluating.score)
app.command()(care.compact)
app.command()(care.erase)
app.command()(care.verify)
app.command("import")(data.import_)
app.command()(serve.serve)
app.add_typer(runs.recipes, name="recipes")
app.add_typer(losses.losses, name="losses")
app.add_typer(models.models, name="models")
app.add_typer(models.cache, name="cache")
for point in sorted(entry_points(group="prefdata.commands"), key=lambda one: one.name):
    point.load().register(app)  # commands of plugins; their modules import nothing heavy
