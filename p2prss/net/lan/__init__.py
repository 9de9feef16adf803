"""Peers on the same network, found by multicast DNS. Pure: announcement, neighbours; shells: mdns, lan."""
