"""What a campaign will need, computed before anything starts: arithmetic on its configuration, nothing is run or written."""
