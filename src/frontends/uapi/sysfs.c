/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The files by which a program finds devices: which there are, and `config`, which is made to say
 * what is true when the program opens it. The tree is in memory here; the program's side makes it
 * (sysfs_mount.c) and sends us a descriptor of its /sys, through which its files stay in reach.
 */
#include "frontends/uapi/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "frontends/uapi/sysfs_device.h"
#include "frontends/uapi/sysfs_tree.h"
#include "frontends/uapi/uapi.h"

#define MISC_MAJOR 10
#define VFIO_MINOR 196
#define IOMMUFD_MINOR \
	1017 /* Linux gives it a free one; no driver of the machine has so high a one */
/* Linux gives out free ones, from 511 down. */
#define GROUP_MAJOR  397
#define DEVICE_MAJOR 396

struct uapi_sysfs {
	struct uapi_tree tree;
	int ours, programs; /* a socketpair: the program's side sends its /sys */

	struct uapi_sysfs_device *devices;

	pthread_mutex_t lock;
	int root; /* with the lock: the program's /sys; -1: not come yet */
};

dev_t uapi_container_rdev(void)
{
	return makedev(MISC_MAJOR, VFIO_MINOR);
}

dev_t uapi_iommufd_rdev(void)
{
	return makedev(MISC_MAJOR, IOMMUFD_MINOR);
}

dev_t uapi_group_rdev(unsigned group)
{
	return makedev(GROUP_MAJOR, group);
}

dev_t uapi_device_rdev(size_t number)
{
	return makedev(DEVICE_MAJOR, (unsigned)number);
}

/* Folders that are there whatever devices there are. */
static const struct {
	const char *path;
	bool only;
} folders[] = {
	{"/dev", false},
	{"/dev/vfio", true},
	{"/dev/vfio/devices", false},
	{"/sys", false},
	{"/sys/bus", false},
	{"/sys/bus/pci", true},
	{"/sys/bus/pci/devices", false},
	{"/sys/bus/pci/drivers", false},
	{"/sys/bus/pci/drivers/vfio-pci", false},
	{"/sys/bus/pci/slots", false},
	{"/sys/class", false},
	{"/sys/class/vfio-dev", true},
	/* Network interfaces, disks and more of the machine are reached through links to its PCI
	 * devices' folders; so those stay. Who looks for PCI devices looks in /sys/bus/pci. */
	{"/sys/devices", false},
	{"/sys/kernel", false},
	{"/sys/kernel/iommu_groups", true},
	{"/sys/module", false},
	{"/sys/module/iommufd", true},
	{"/sys/module/vfio", true},
	{"/sys/module/vfio/parameters", false},
	{"/sys/module/vfio_iommu_type1", true},
	{"/sys/module/vfio_iommu_type1/parameters", false},
	{"/sys/module/vfio_pci", true},
	{"/sys/module/vfio_pci/drivers", false},
	{"/sys/module/vfio_pci/parameters", false},
	{"/sys/module/vfio_pci_core", true},
};

/* Nothing happens when they are written: the devices are bound to vfio-pci, and stay so. */
static const struct {
	const char *folder, *name, *text;
	mode_t mode;
} files[] = {
	{"/sys/bus/pci", "drivers_autoprobe", "1\n", 0644},
	{"/sys/bus/pci", "drivers_probe", "", 0200},
	{"/sys/bus/pci", "rescan", "", 0200},
	{"/sys/bus/pci", "uevent", "", 0200},
	{"/sys/bus/pci/drivers/vfio-pci", "bind", "", 0200},
	{"/sys/bus/pci/drivers/vfio-pci", "new_id", "", 0200},
	{"/sys/bus/pci/drivers/vfio-pci", "remove_id", "", 0200},
	{"/sys/bus/pci/drivers/vfio-pci", "uevent", "", 0200},
	{"/sys/bus/pci/drivers/vfio-pci", "unbind", "", 0200},
	{"/sys/module/iommufd", "initstate", "live\n", 0444},
	{"/sys/module/vfio", "initstate", "live\n", 0444},
	{"/sys/module/vfio/parameters", "enable_unsafe_noiommu_mode", "N\n", 0644},
	{"/sys/module/vfio_iommu_type1", "initstate", "live\n", 0444},
	{"/sys/module/vfio_iommu_type1/parameters", "allow_unsafe_interrupts", "N\n", 0644},
	{"/sys/module/vfio_iommu_type1/parameters", "disable_hugepages", "N\n", 0644},
	{"/sys/module/vfio_pci", "initstate", "live\n", 0444},
	{"/sys/module/vfio_pci/parameters", "disable_denylist", "N\n", 0644},
	{"/sys/module/vfio_pci/parameters", "disable_idle_d3", "N\n", 0644},
	{"/sys/module/vfio_pci/parameters", "enable_sriov", "N\n", 0644},
	{"/sys/module/vfio_pci_core", "initstate", "live\n", 0444},
};

static void describe_machine(struct uvf_run *run, struct uapi_tree *tree)
{
	for (size_t i = 0; i < UVF_ARRAY_SIZE(folders); i++)
		(folders[i].only ? uapi_tree_only : uapi_tree_folder)(tree, folders[i].path);
	for (size_t i = 0; i < UVF_ARRAY_SIZE(files); i++)
		uapi_tree_file(tree, files[i].folder, files[i].name, files[i].mode, "%s",
			       files[i].text);
	uapi_tree_file(tree, "/sys/module/vfio_iommu_type1/parameters", "dma_entry_limit", 0644,
		       "%" PRIu64 "\n", run->config.max_mappings);
	uapi_tree_link(tree, "/sys/bus/pci/drivers/vfio-pci", "module",
		       "../../../../module/vfio_pci");
	uapi_tree_link(tree, "/sys/module/vfio_pci/drivers", "pci:vfio-pci",
		       "../../../bus/pci/drivers/vfio-pci");
	uapi_tree_device(tree, "/dev", "iommu", uapi_iommufd_rdev());
	uapi_tree_device(tree, "/dev/vfio", "vfio", uapi_container_rdev());
}

static void describe_group(struct uapi_sysfs *sysfs, const struct uapi_group *group)
{
	const struct uvf_run_config *config = &group->run->config;
	struct uapi_tree *tree = &sysfs->tree;
	char folder[64], inner[80], name[16], *reserved = NULL;
	size_t size;
	FILE *text = open_memstream(&reserved, &size);

	snprintf(name, sizeof(name), "%u", group->number);
	uapi_tree_device(tree, "/dev/vfio", name, uapi_group_rdev(group->number));
	snprintf(folder, sizeof(folder), "/sys/kernel/iommu_groups/%u", group->number);
	uapi_tree_folder(tree, folder);
	uapi_tree_file(tree, folder, "type", 0644, "DMA\n");
	snprintf(inner, sizeof(inner), "%s/devices", folder);
	uapi_tree_folder(tree, inner);
	for (size_t i = 0; i < group->device_count; i++) {
		const struct uapi_device *device = group->devices[i];

		uapi_tree_link(tree, inner, device->address, "../../../..%s",
			       sysfs->devices[device->number].folder + strlen("/sys"));
	}
	for (size_t i = 0; text && i < config->reserved_count; i++) {
		const struct uvf_iova_range *range = &config->reserved[i];
		bool msi = range->first == 0xfee00000 && range->last == 0xfeefffff;

		fprintf(text, "0x%016" PRIx64 " 0x%016" PRIx64 " %s\n", range->first, range->last,
			msi ? "msi" : "reserved");
	}
	if (!text || fclose(text) != 0)
		tree->failed = true;
	else
		uapi_tree_file(tree, folder, "reserved_regions", 0444, "%s", reserved);
	free(reserved);
}

/* The root complex that the device is on, which others before it may be on too. */
static void describe_root(struct uvf_run *run, size_t number, struct uapi_tree *tree)
{
	const struct uapi_device *device = &run->devices[number];
	char folder[48];

	for (size_t i = 0; i < number; i++)
		if (run->devices[i].domain == device->domain && run->devices[i].bus == device->bus)
			return;
	snprintf(folder, sizeof(folder), "/sys/devices/pci%04x:%02x", device->domain, device->bus);
	uapi_tree_folder(tree, folder);
}

static void describe_links(struct uapi_sysfs *sysfs, const struct uapi_device *device)
{
	const char *path = sysfs->devices[device->number].folder + strlen("/sys");
	struct uapi_tree *tree = &sysfs->tree;
	char name[24];

	uapi_tree_link(tree, "/sys/bus/pci/devices", device->address, "../../..%s", path);
	uapi_tree_link(tree, "/sys/bus/pci/drivers/vfio-pci", device->address, "../../../..%s",
		       path);
	snprintf(name, sizeof(name), "vfio%zu", device->number);
	uapi_tree_device(tree, "/dev/vfio/devices", name, uapi_device_rdev(device->number));
}

int uapi_sysfs_new(struct uvf_run *run, struct uvf_error *error)
{
	struct uapi_sysfs *sysfs = calloc(1, sizeof(*sysfs));
	struct uapi_bus_space space;
	int result = -ENOMEM, ends[2];

	if (!sysfs)
		return uvf_fail(error, -ENOMEM, "no memory");
	sysfs->ours = sysfs->programs = sysfs->root = -1;
	pthread_mutex_init(&sysfs->lock, NULL);
	run->sysfs = sysfs;
	sysfs->devices = calloc(run->device_count, sizeof(*sysfs->devices));
	if (!sysfs->devices)
		goto failed;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0) {
		result = -errno;
		goto failed;
	}
	sysfs->ours = ends[0];
	sysfs->programs = ends[1];
	describe_machine(run, &sysfs->tree);
	uapi_bus_space_init(&space);
	for (size_t i = 0; i < run->device_count; i++) {
		struct uapi_device *device = &run->devices[i];

		result = uapi_sysfs_device_init(&sysfs->devices[i], device, &space);
		if (result < 0) {
			uvf_fail(error, result, "%s: its configuration space can't be read: %s",
				 device->address, strerror(-result));
			uapi_sysfs_free(run);
			return result;
		}
		describe_root(run, i, &sysfs->tree);
		uapi_sysfs_device_describe(&sysfs->devices[i], device, &sysfs->tree);
		describe_links(sysfs, device);
	}
	for (size_t i = 0; i < run->group_count; i++)
		describe_group(sysfs, &run->groups[i]);
	result = uapi_tree_complete(&sysfs->tree);
	if (!result)
		return 0;
failed:
	uapi_sysfs_free(run);
	return uvf_fail(error, result, "%s", strerror(-result));
}

void uapi_sysfs_free(struct uvf_run *run)
{
	struct uapi_sysfs *sysfs = run->sysfs;

	run->sysfs = NULL;
	if (!sysfs)
		return;
	uapi_tree_free(&sysfs->tree);
	free(sysfs->devices);
	if (sysfs->ours >= 0)
		close(sysfs->ours);
	if (sysfs->programs >= 0)
		close(sysfs->programs);
	if (sysfs->root >= 0)
		close(sysfs->root);
	pthread_mutex_destroy(&sysfs->lock);
	free(sysfs);
}

/* A message with one descriptor. Its one byte says nothing. */
struct fd_message {
	struct msghdr header;
	struct iovec iovec;
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	char byte;
};

static void fd_message_init(struct fd_message *message)
{
	memset(message, 0, sizeof(*message));
	message->iovec = (struct iovec){&message->byte, 1};
	message->header = (struct msghdr){
		.msg_iov = &message->iovec,
		.msg_iovlen = 1,
		.msg_control = message->control,
		.msg_controllen = sizeof(message->control),
	};
}

int uapi_sysfs_mount(const struct uvf_run *run, const char **what)
{
	int result = uapi_tree_mount(&run->sysfs->tree, what);
	struct fd_message message;
	struct cmsghdr *control;
	int root;

	if (result < 0)
		return result;
	*what = "/sys";
	root = open("/sys", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -errno;
	fd_message_init(&message);
	control = CMSG_FIRSTHDR(&message.header);
	control->cmsg_level = SOL_SOCKET;
	control->cmsg_type = SCM_RIGHTS;
	control->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(control), &root, sizeof(root));
	if (sendmsg(run->sysfs->programs, &message.header, MSG_NOSIGNAL) < 0)
		result = -errno;
	close(root);
	return result;
}

/* The program's /sys, once it has sent it. */
static int program_root(struct uapi_sysfs *sysfs)
{
	struct fd_message message;
	struct cmsghdr *control;
	int root;

	pthread_mutex_lock(&sysfs->lock);
	fd_message_init(&message);
	if (sysfs->root < 0 &&
	    recvmsg(sysfs->ours, &message.header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) > 0) {
		control = CMSG_FIRSTHDR(&message.header);
		if (control && control->cmsg_type == SCM_RIGHTS &&
		    control->cmsg_len == CMSG_LEN(sizeof(int)))
			memcpy(&sysfs->root, CMSG_DATA(control), sizeof(sysfs->root));
	}
	root = sysfs->root;
	pthread_mutex_unlock(&sysfs->lock);
	return root;
}

/* Which device the file at @path is of: one of its names is a folder above it. */
static struct uapi_device *device_at(struct uvf_run *run, const char *path)
{
	for (size_t i = 0; i < run->device_count; i++) {
		struct uapi_device *device = &run->devices[i];
		char address[sizeof(device->address) + 16], cdev[48];

		snprintf(address, sizeof(address), "/%s/config", device->address);
		snprintf(cdev, sizeof(cdev), "/vfio%zu/device/config", device->number);
		for (const char *name = path; (name = strchr(name, '/')); name++)
			if (strcmp(name, address) == 0 || strcmp(name, cdev) == 0)
				return device;
	}
	return NULL;
}

void uapi_sysfs_refresh(struct uvf_run *run, const char *path)
{
	struct uapi_sysfs *sysfs = run->sysfs;
	struct uapi_sysfs_device *shown;
	struct uapi_device *device;
	uint8_t config[UAPI_CONFIG_MAX];
	char file[sizeof(shown->folder) + 16];
	ssize_t size;
	int root, fd;

	if (!sysfs || strncmp(path, "/sys/", 5) != 0)
		return;
	device = device_at(run, path);
	if (!device)
		return;
	shown = &sysfs->devices[device->number];
	snprintf(file, sizeof(file), "%s/config", shown->folder + strlen("/sys/"));
	root = program_root(sysfs);
	if (root < 0)
		return;
	/* So that nobody puts older bytes over newer ones. */
	pthread_mutex_lock(&shown->lock);
	size = uapi_sysfs_device_config(shown, device, config);
	if (size > 0 && memcmp(config, shown->config, (size_t)size) != 0) {
		/* The program may have put something else there, at which an open would wait. */
		fd = openat(root, file, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (fd >= 0 && pwrite(fd, config, (size_t)size, 0) == size)
			memcpy(shown->config, config, (size_t)size);
		if (fd >= 0)
			close(fd);
	}
	pthread_mutex_unlock(&shown->lock);
}
