"""Preparing a task: from a table of solved cases (CSV, JSONL, Parquet, Excel) to a task folder."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
