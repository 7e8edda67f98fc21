"""serve."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer
from rich.markup import escape

from prefdata.cli.screen import errors, output


def serve(
    model: Annotated[
        str, typer.Argument(help="A GGUF file, smollm2-135m-instruct or gemma3-270m.", show_default=False)
    ],
    host: Annotated[str, typer.Option(help="The address to listen at; 0.0.0.0 for every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 for any that is free.")] = 8080,
    parallel: Annotated[int, typer.Option(min=1, help="Requests answered at once.")] = 8,
    context: Annotated[int, typer.Option(min=64, help="Tokens of prompt and answer that each has room for.")] = 4096,
    threads: Annotated[int | None, typer.Option(min=1, help="Of the CPU; one each core unless set.")] = None,
) -> None:
    """Serve a small model to this machine, as OpenAI's interface has it, until Ctrl-C. No key, and no GPU needed.

    Example: `prefdata serve smollm2-135m-instruct --port 8080`
    """
    from prefdata.engines.serving import gguf_of
    from prefdata.engines.serving import serve as start

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    file, name = gguf_of(model, say=lambda message: errors.print(escape(message)))
    if host not in ("127.0.0.1", "localhost", "::1"):
        errors.print(f"[bold]WARNING[/]: {escape(host)} can be reached by other machines, and nothing checks who asks")
    server = start(file, name, host=host, port=port, parallel=parallel, context=context, threads=threads)
    errors.print(
        f"{escape(name)} answers at {escape(server.url)}: {parallel} requests at once, {context:,} tokens each. "
        "Ctrl-C ends it. For a judge, in another shell:"
    )
    output.print(f"export JUDGE_URL={escape(server.url)}")
    output.print(f"export JUDGE_MODEL={escape(name)}")
    output.file.flush()
    stopped.wait()
    server.close()
    errors.print("stopped")
