"""Background work: queues and their retry policy, worker, schedule, relay of events. No business rule stands here."""
