"""The distributed hash table: dht-rpc and HyperDHT, compatible with the JavaScript network."""
