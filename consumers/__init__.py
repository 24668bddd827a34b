"""From events and insights to stores and people."""
