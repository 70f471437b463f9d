"""MissingPackage: a Python package that one of the extras brings is not installed."""


class MissingPackage(ImportError):
    """A package cannot be imported; the text is one sentence that says what to install."""
