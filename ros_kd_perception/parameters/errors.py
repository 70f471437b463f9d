"""The error of parameters. It has a module of its own because the launch system's Python may have no NumPy."""


class ParameterError(ValueError):
    """The node cannot run with a parameter. The text is one sentence."""
