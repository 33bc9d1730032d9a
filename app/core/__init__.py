"""What every other package stands on: money, clock, errors, unit of work, events, audit. No business words in here."""
