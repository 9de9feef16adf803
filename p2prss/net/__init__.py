"""Links to peers and the replication of stored logs over them; trio."""
