"""What we need of AWS: sessions, credentials, signatures, targets."""
