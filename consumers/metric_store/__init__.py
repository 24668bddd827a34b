"""The Metrics table: one item a host and minute."""
