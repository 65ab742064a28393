"""The stack without containers: the five services as processes over private servers. Needs the extra `local`."""
