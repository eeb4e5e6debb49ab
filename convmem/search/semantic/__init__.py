"""Finding by meaning: texts become vectors (``embedder``), kept in one file (``vectors``)."""
