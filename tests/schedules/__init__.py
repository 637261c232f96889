"""Every interleaving: the real code of the spool under all schedules with few preemptions and crashes.

A schedule says which actor goes on before each change of the disk, and who dies there. The explorer (``explore``) runs
all of them up to a bound on one real spool each (``stage``, ``view``, ``host``), and each must be explained by a small
model of a job (``model``, ``history``) and leave a spool that is whole (``verdict``).
"""
