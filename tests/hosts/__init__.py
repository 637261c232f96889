"""A lab of real hosts on one machine: each a Linux kernel of its own, an NFS server and its clients among them."""
