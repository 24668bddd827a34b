"""What travels through OpsRiver: events, insights and dead letters. Imports nothing of ours."""
