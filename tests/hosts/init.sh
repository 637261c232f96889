#!/bin/bash
# The first process of a guest. It makes of a kernel and the outer machine's root, which is there read-only, a host:
# places to write to, a network, kernel modules. Then the agent listens on the serial line; when that ends, all does.
export PATH=/run/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
for place in /tmp /run /mnt /var/tmp /var/lib/nfs /dev/shm; do
  mkdir -p "$place"
  if [ -d "$place" ]; then mount -t tmpfs tmpfs "$place"; fi
done

# hostname, address, python and its path come as name=value from the kernel's command line.
for word in $(cat /proc/cmdline); do
  case "$word" in lab_*=*) declare "${word%%=*}=${word#*=}" ;; esac
done

# The modules of this kernel lie where modprobe does not look, and the root may have no /lib/modules to mount them on.
mkdir -p /run/bin /run/kernel/lib/modules
ln -s "/usr/lib/uml/modules/$(uname -r)" /run/kernel/lib/modules/
printf '#!/bin/sh\nexec /sbin/modprobe -d /run/kernel "$@"\n' >/run/bin/modprobe
chmod +x /run/bin/modprobe
echo /run/bin/modprobe >/proc/sys/kernel/modprobe

hostname "$lab_name"
ip link set lo up
ip addr add "$lab_address/24" dev eth0
ip link set eth0 up

# The root once more: there, /tmp and the other places above are those of the outer machine.
mkdir -p /mnt/outer
mount -t hostfs -o ro,/ none /mnt/outer
"$lab_python" -S -E "$lab_agent" /dev/ttyS0
poweroff -f
