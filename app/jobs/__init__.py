"""Background work: queues and their retry policy, the worker, the schedule, the relay of events. No business rule stands here."""
