"""What a text's words are, what a query asks for, and what is shown of a hit."""
