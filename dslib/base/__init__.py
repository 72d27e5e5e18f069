"""What every part leans on and what leans on no part: reading pictures (and more to come)."""
