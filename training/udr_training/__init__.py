"""Training: candidates, a language model's feedback, ranks, losses, mining; and the evaluation of retrievers."""
