"""Errors that a command ends with."""


class StartError(Exception):
    """Why something cannot start, in one line that says what to do."""
