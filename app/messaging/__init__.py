"""Mails to clients: what is said to whom on which fact, how it is composed and sent, and the development mailbox."""
