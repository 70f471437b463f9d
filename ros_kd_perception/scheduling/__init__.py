"""Which frame is processed next, and in which thread: mailboxes, frame preparation, the worker, its sinks."""
