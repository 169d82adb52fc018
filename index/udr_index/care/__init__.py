"""Pool care: what is wrong with the rows of a collection, and what they are like.

``udr_index.care.check.check`` and ``udr_index.care.stats.collect`` do it; ``udr tasks check`` and ``udr tasks stats``
are the same from a shell.
"""
