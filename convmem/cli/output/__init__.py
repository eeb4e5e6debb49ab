"""What the command line prints: for machines, for people, and on standard error."""
