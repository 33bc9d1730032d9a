"""Introducing brokers: who they are, the links they hand out, and which client is whose from when to when."""
