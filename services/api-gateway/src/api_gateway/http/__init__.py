"""HTTP itself: the server and its limits, requests, problems, and the description of the API."""
