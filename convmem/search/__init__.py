"""Finding turns: by pattern (``scan``), by words (``index``), by meaning (``semantic``)."""
