"""UDX: many reliable, ordered byte streams over UDP sockets that are shared with the DHT."""
