"""The whole gateway as a real process, in front of a server that counts what reaches it."""
