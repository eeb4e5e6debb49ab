"""Adapters: convmem as the memory of agent frameworks, a file each, by its public API alone."""
