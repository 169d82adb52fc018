"""Evaluation: what a language model reaches with each retriever's demonstrations, and the report that shows it."""
