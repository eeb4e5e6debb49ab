"""Checks of one log: what is wrong with it, and how it is mended."""
