"""What each message goes through: frames, decoding, sequence numbers. Pure."""
