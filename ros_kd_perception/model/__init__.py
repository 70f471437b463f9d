"""A student's file: its contract, the session that runs it, its golden frames, letterbox and boxes."""
