"""Replication of logs between peers, sans-IO: messages and a clock in, messages and disk work out."""
