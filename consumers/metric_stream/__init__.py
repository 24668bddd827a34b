"""CloudWatch metric streams: from Firehose onto the stream, each resource under its own key."""
