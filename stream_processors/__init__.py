"""From Kinesis records to insights: decoding, detectors, the scoring core and its durable state."""
