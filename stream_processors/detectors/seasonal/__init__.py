"""The default detector: several families of evidence, each against the series' own past."""
