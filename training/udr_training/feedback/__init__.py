"""Feedback: what a language model says of a target, given one demonstration and a query."""
