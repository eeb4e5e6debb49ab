"""Likely credentials in turns: found by a well-kept detector's rules, named, and masked."""
