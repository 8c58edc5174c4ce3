"""The Dataset Gateway: policy enforced on the bytes of training data.

It stores datasets as encrypted Parquet, decides every access by rules, streams exactly
the decided columns and rows to training jobs, and records all of it for auditors.
The rooms and the direction of their imports are drawn in docs/explain/architecture.md.
"""

__version__ = "0.1.0"
