"""What every deployed part needs of AWS: settings, clients with their retry rules, logging."""
