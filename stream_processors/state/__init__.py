"""Durable state of the scoring core: snapshots and the checkpoint that names them."""
