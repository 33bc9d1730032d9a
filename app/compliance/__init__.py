"""Compliance: proofs that clients hand in, how they are kept, and how staff judge them."""
