"""Archived events scored anew, and what would have been sent against what was."""
