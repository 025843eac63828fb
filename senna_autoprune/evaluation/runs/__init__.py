"""What a run keeps: rows, its database, and the check of a database that somebody else wrote."""
