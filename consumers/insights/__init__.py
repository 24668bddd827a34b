"""The Insights table: writing revisions, reading them back."""
