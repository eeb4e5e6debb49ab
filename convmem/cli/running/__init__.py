"""``convmem run``: a command at its own terminal or in a pipe, and what it said beside that."""
