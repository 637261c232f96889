"""Every interleaving: the real code of the spool under all schedules with few preemptions and crashes.

A schedule says which actor goes on before each change of the disk, and who dies there. The explorer (``explore``) runs
all of them up to a bound on one real spool each (``stage``, ``view``, ``host``), and each must be explained by a small
model of a job (``model``, ``linear``) and leave a spool that is whole (``verdict``). To take an actor off while it could
go on costs one, and so does a death; who is next after an end or a death is free.

What is not run is the same as something that is, for one of two reasons. A state that was reached before is not gone on
from again (``explore``): it is the disk, what every actor was told by it since its last call returned, what its calls
answered and which calls had returned when it made them, and who goes on. And nobody is stopped before a change that no
actor can see by itself (``stage.commutes``). What lies between two changes is done at once, unless a scenario says that
its actors stop before each look, too.
"""
