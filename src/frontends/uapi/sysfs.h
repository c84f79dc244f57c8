/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The files by which a program finds devices: a tree made here, beforehand, of what the devices
 * say, that stands in the program's mount namespace for /sys/bus/pci, /sys/devices/pci*,
 * /sys/kernel/iommu_groups, /sys/class/vfio-dev, /sys/module/vfio* and /dev/vfio, /dev/iommu.
 */
#ifndef UVF_UAPI_SYSFS_H
#define UVF_UAPI_SYSFS_H

#include <uvfio/types.h>

struct uvf_run;
struct uapi_device;

/* Makes the tree, in a folder of its own that only we can write to. */
int uapi_sysfs_new(struct uvf_run *run, struct uvf_error *error);
/* Takes the folder away. NULL tree: nothing. */
void uapi_sysfs_free(struct uvf_run *run);

/*
 * In the child, in its own mount namespace, before execve(): puts the tree where the program looks.
 * Calls nothing that takes a lock or allocates: other threads of the parent may have held one.
 * Returns 0, or a negative errno with *@what saying at which path.
 */
int uapi_sysfs_mount(const struct uvf_run *run, const char **what);

/*
 * @path, absolute and normalised, is about to be opened: if it is a device's `config`, it is made
 * to hold what the configuration space holds now.
 */
void uapi_sysfs_refresh(struct uvf_run *run, const char *path);

/*
 * The character devices' numbers, as Linux gives them: major 10 minor 196 for /dev/vfio/vfio, and
 * of majors of their own for groups (minor: the group's number) and devices (minor: N of vfioN).
 */
dev_t uapi_container_rdev(void);
dev_t uapi_iommufd_rdev(void);
dev_t uapi_group_rdev(unsigned group);
dev_t uapi_device_rdev(size_t number);

#endif
