"""Conversations as people read them: Markdown, and HTML pages that need nothing else."""
