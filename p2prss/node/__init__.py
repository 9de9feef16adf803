"""One running program per home: store, links, feeds and the HTTP server together."""
