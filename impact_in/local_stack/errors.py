"""What the local stack raises."""

from collections.abc import Sequence


class LocalStackError(Exception):
    """A server of the local stack cannot run. One line: what is wrong, and what to do about it.

    ``log_tail`` holds the last lines that the server wrote in this start, oldest first; they are a note of
    the exception too, so that a traceback shows them.
    """

    def __init__(self, message: str, *, log_tail: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.log_tail = tuple(log_tail)
        if self.log_tail:
            self.add_note("\n".join(self.log_tail))
