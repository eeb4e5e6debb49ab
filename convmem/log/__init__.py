"""One conversation on one disk: the bytes of its log, and everything that may happen to them."""
