"""What every case needs: a world of its own, load, and the checks."""
