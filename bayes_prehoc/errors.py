"""The errors a user meets: few, and each says what is wrong, where, and what to do.

Whatever a person can put right (a file, a column, an option) is an `InputError`; the command line turns it
into one line and exit code 2. What a numerical routine cannot answer is never an exception but a field of
what it returns (a task's `status`, a fit's `converged`).
"""

__all__ = ["BayesPrehocError", "InputError"]


class BayesPrehocError(Exception):
    """Base class of every error this package raises on purpose."""


class InputError(BayesPrehocError, ValueError):
    """Something the user gave cannot be used.

    Parameters
    ----------
    what : str
        What is wrong, with the offending value.
    where : str
        The place: a file and column, a task, a parameter.
    remedy : str
        What to do about it.
    """

    def __init__(self, what: str, where: str, remedy: str):
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(f"{where}: {what}. {remedy}")
