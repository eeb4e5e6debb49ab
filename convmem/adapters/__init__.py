"""Adapters: convmem as the memory of agent frameworks, a folder each, by its public API."""
