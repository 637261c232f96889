#!/bin/bash
# The init of a guest kernel whose root is this host's, read-only: runs share/run.sh and switches itself off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sys /sys
for directory in /tmp /run /mnt; do mount -t tmpfs tmpfs "$directory"; done
kernel=$(uname -r)
mkdir -p "/run/modules/$kernel" /mnt/share /dev/mapper
mount --bind "/usr/lib/uml/modules/$kernel" "/run/modules/$kernel"
mount --bind /run/modules /lib/modules
mount --bind "/usr/lib/uml/modules/$kernel" "/lib/modules/$kernel"
mknod /dev/mapper/control c 10 236 2>/dev/null
for word in $(cat /proc/cmdline); do
  case $word in share=*) share=${word#share=} ;; esac
done
mount -t hostfs none /mnt/share -o "$share"
bash /mnt/share/run.sh >/mnt/share/out 2>&1 </dev/null
echo $? >/mnt/share/code
sync
poweroff -f
