"""Kinesis records to columns of events. Pure: no AWS, no clock, no NumPy."""
