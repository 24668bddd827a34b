"""What pushes: the host agent, the fleet simulator, the heartbeat."""
