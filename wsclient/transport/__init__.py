"""What connects to a venue, and reads and writes there."""
