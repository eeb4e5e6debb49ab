"""One file for each transcript format: what its records say, and how they are given back."""
