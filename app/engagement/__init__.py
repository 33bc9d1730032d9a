"""Engagement: what clients and the house say to each other."""
