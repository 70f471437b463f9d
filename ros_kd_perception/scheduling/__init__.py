"""Whose frame is next, and in which thread: mailboxes, preparation, the worker."""
