"""Finding turns by an expression, without an index: what ``convmem grep`` does."""
