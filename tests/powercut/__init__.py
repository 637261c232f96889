"""Power cuts: a journaled file system that is cut off in the midst of work, mounted again, and looked at."""
