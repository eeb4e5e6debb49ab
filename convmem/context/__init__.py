"""What fits into a model's budget: the window over a conversation's end, its tokens, its texts."""
