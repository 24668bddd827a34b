"""From insights to people: transitions, the ledger, the publisher, messages."""
