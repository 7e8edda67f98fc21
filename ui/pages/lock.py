"""The lock of a page's events: Gradio offers each of them to whoever knows its number."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

from prefdata.errors import DataError, PrefdataError

from ..accounts.person import Person

if TYPE_CHECKING:
    import gradio as gr

    from ..service import Service

Handler = Callable[..., Any]


class Locked:
    """Registers events that ask first who is asking.

    Values come as the browser sent them (`preprocess=False`): Gradio would hold a choice against what it sent to this
    session, which a server that was started again no longer knows. Handlers check them.

    Args:
        service: knows who is asking.
        role: the least role.
    """

    def __init__(self, service: Service, role: str = "reviewer") -> None:
        self.service, self.role = service, role

    def on(
        self,
        triggers: Callable[..., Any] | list[Callable[..., Any]],
        handler: Handler,
        inputs: list[Any],
        outputs: list[Any],
        *,
        sent: bool = False,
        role: str | None = None,
        **options: Any,
    ) -> None:
        """Let events run a handler.

        Args:
            triggers: such as `button.click`.
            handler: gets who asks, what the browser sent with the event (with `sent`), and the inputs' values.
            inputs: components.
            outputs: components.
            sent: the event carries something.
            role: the least role, if it is another one.
            options: of Gradio's.
        """
        locked = self.locked(handler, sent=sent, role=role)
        for trigger in triggers if isinstance(triggers, list) else [triggers]:
            # mypy: each of Gradio's events is a method that is made at run time.
            trigger(
                locked, inputs, outputs, preprocess=False, api_visibility="private", show_progress="hidden", **options
            )

    def locked(self, handler: Handler, *, sent: bool = False, role: str | None = None) -> Handler:
        """A handler behind the lock; what goes wrong is told as a sentence."""
        import gradio as gr

        def run(request: gr.Request, *given: Any) -> Any:
            try:
                who: Person = self.service.allowed(request, role or self.role)
                return handler(who, *given)
            except PrefdataError as error:
                raise gr.Error(escape(str(error)), title="This did not work", print_exception=False) from error

        def run_with(request: gr.Request, event: gr.EventData, *given: Any) -> Any:
            return run(request, getattr(event, "_data", None), *given)

        chosen = run_with if sent else run
        # Gradio looks for what to pass by type; gradio is imported here only.
        run.__annotations__ = {"request": gr.Request}
        run_with.__annotations__ = {"request": gr.Request, "event": gr.EventData}
        chosen.__name__ = getattr(handler, "__name__", "handler").lstrip("_")
        return chosen


def number(value: object, what: str, low: float, high: float) -> float:
    """A number as the browser sent it.

    Raises:
        DataError: it is none, or outside its range.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise DataError(f"{what} is a number from {low:g} to {high:g}")
    return float(value)


def whole(value: object, what: str) -> int:
    """A number of something, as the browser sent it.

    Raises:
        DataError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise DataError(f"choose {what} first")
    return int(value)
