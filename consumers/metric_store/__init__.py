"""The Metrics table: one item a host and minute, written beside scoring and never in its way."""
