"""MissingPackage: the error for a missing Python package that one of the extras installs."""


class MissingPackage(ImportError):
    """A package is not installed. The text is one sentence and says what to install."""
