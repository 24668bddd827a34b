"""The deep detector: the default one, and the past days as its measure, for series that matter."""
