"""Where conversations are kept: the protocol, and the folder of JSONL files that is the default."""
