"""Topics become connections. Pure: topics, peers, priority; shell: swarm."""
