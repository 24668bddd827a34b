"""The demo: a fleet and this machine, through the whole pipeline, to alerts that are really delivered."""
