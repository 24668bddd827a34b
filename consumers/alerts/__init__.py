"""From stored insights to people: publisher, sweeper, notifier and their ledger."""
