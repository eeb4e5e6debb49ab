"""The index of one namespace's turns by their words: derived, and in step with the logs."""
