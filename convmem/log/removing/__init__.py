"""Turns that go: decided, put away, remembered, brought back."""
