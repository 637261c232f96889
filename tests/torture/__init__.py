"""Real processes on one spool, killed and stopped at random; what they were told is compared with what is there."""
