"""Detectors: columnar banks and their river estimators."""
