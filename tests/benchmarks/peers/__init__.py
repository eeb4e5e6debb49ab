"""What convmem is measured beside: a file for each peer, and the process that works it."""
