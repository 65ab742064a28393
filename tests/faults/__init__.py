"""The fault matrix: real servers and services, real faults, and checks that can fail."""
