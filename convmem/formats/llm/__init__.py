"""The database of simonw/llm, of both generations."""
