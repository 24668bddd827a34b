"""The host agent: samples this machine, and loses nothing while the stream is out of reach."""
