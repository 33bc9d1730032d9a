"""Clients: their way in, their one-time links, their passwords, their profile."""
