"""Compressed logs: conversations that nobody uses, and how they come back."""
