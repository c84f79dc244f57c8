/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The files by which a program finds devices, as a process in a mount namespace of its own sees
 * them: with a user namespace, and as root without one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

#include "base/bytes.h"
#include "frontends/uapi/sysfs.h"
#include "frontends/uapi/sysfs_cpus.h"
#include "frontends/uapi/sysfs_tree.h"
#include "frontends/uapi/uapi.h"

#define DEVICES 3

/* Two devices of one group, and one on the bus where machines have devices of their own. */
static const struct {
	const char *spec, *address;
	uint8_t bus, devfn;
	unsigned group;
} wanted[DEVICES] = {
	{"ioat", "0000:6a:01.0", 0x6a, 1 << 3, 7},
	{"serial", "0000:6a:01.1", 0x6a, 1 << 3 | 1, 7},
	{"ioat", "0000:00:1f.7", 0x00, 0x1f << 3 | 7, 9},
};

struct world {
	struct uvf_run run;
	struct uapi_device devices[DEVICES];
	struct uapi_group groups[2];
	struct uapi_device *members[DEVICES];
	struct uvf_iova_range reserved;
	pid_t child;
	int alive; /* the child ends when this closes */
	char root[64];
	char text[8192];
};

static struct world world;

static void world_init(void)
{
	struct uvf_error error;

	memset(&world, 0, sizeof(world));
	world.reserved = (struct uvf_iova_range){0xfee00000, 0xfeefffff};
	world.run.config = (struct uvf_run_config){
		.max_mappings = 65535, .reserved = &world.reserved, .reserved_count = 1};
	world.run.devices = world.devices;
	world.run.device_count = DEVICES;
	world.run.groups = world.groups;
	world.run.group_count = 2;
	for (size_t i = 0; i < DEVICES; i++) {
		struct uapi_device *device = &world.devices[i];

		device->run = &world.run;
		device->number = i;
		device->bus = wanted[i].bus;
		device->devfn = wanted[i].devfn;
		device->numa_node = -1;
		strcpy(device->address, wanted[i].address);
		device->group = &world.groups[i / 2];
		world.members[i] = device;
		assert_int_equal(uvf_model_create(wanted[i].spec, &device->dev, &error), 0);
	}
	for (size_t i = 0; i < 2; i++)
		world.groups[i] = (struct uapi_group){.run = &world.run,
						      .number = wanted[2 * i].group,
						      .devices = &world.members[2 * i],
						      .device_count = i ? 1 : 2};
	assert_int_equal(uapi_sysfs_new(&world.run, &error), 0);
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

/* In the child: the namespaces as an ordinary user, or as what we are. */
static int enter(bool ordinary)
{
	uid_t uid = getuid();
	gid_t gid = getgid();
	char map[64];

	if (ordinary && uid == 0) {
		uid = gid = 1000;
		if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
		    setresuid(uid, uid, uid) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
			return -1;
	}
	if (uid == 0)
		return unshare(CLONE_NEWNS);
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return -1;
	snprintf(map, sizeof(map), "%u %u 1", uid, uid);
	if (!write_file("/proc/self/setgroups", "deny") || !write_file("/proc/self/uid_map", map))
		return -1;
	snprintf(map, sizeof(map), "%u %u 1", gid, gid);
	return write_file("/proc/self/gid_map", map) ? 0 : -1;
}

static void start(bool ordinary)
{
	int ends[2], ready[2];
	char answer = 0;

	world_init();
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(pipe(ready), 0);
	world.child = fork();
	assert_true(world.child >= 0);
	if (!world.child) {
		const char *what = "";
		int result;

		close(ends[1]);
		umask(077); /* it is the program's, and not for our files */
		if (enter(ordinary) < 0) {
			answer = 'n';
		} else {
			result = uapi_sysfs_mount(&world.run, &what);
			answer = result ? 'f' : 'y';
			if (result)
				fprintf(stderr, "%s: %s\n", what, strerror(-result));
		}
		if (write(ready[1], &answer, 1) == 1 && read(ends[0], &answer, 1) >= 0)
			_exit(0);
		_exit(1);
	}
	close(ends[0]);
	close(ready[1]);
	world.alive = ends[1];
	assert_int_equal(read(ready[0], &answer, 1), 1);
	close(ready[0]);
	snprintf(world.root, sizeof(world.root), "/proc/%d/root", world.child);
	if (answer == 'n')
		print_message("no namespaces to be had here\n");
	assert_int_not_equal(answer, 'f');
	if (answer == 'n')
		world.root[0] = '\0';
}

static int setup_user(void **state)
{
	start(true);
	return 0;
}

static int setup_self(void **state)
{
	start(false);
	return 0;
}

static int teardown(void **state)
{
	int status;

	close(world.alive);
	waitpid(world.child, &status, 0);
	uapi_sysfs_free(&world.run);
	for (size_t i = 0; i < DEVICES; i++)
		uvf_device_free(world.devices[i].dev);
	return 0;
}

static void need_namespaces(void)
{
	if (!world.root[0])
		skip();
}

static char *path_of(const char *path)
{
	static char full[4][512];
	static unsigned turn;

	turn = (turn + 1) % 4;
	snprintf(full[turn], sizeof(full[turn]), "%s%s", world.root, path);
	return full[turn];
}

static const char *text_of(const char *path)
{
	int fd = open(path_of(path), O_RDONLY);
	ssize_t size;

	if (fd < 0)
		print_error("%s: %s\n", path, strerror(errno));
	assert_true(fd >= 0);
	size = read(fd, world.text, sizeof(world.text) - 1);
	assert_true(size >= 0);
	close(fd);
	world.text[size] = '\0';
	return world.text;
}

static const char *link_of(const char *path)
{
	ssize_t size = readlink(path_of(path), world.text, sizeof(world.text) - 1);

	assert_true(size >= 0);
	world.text[size] = '\0';
	return world.text;
}

static bool same_file(const char *a, const char *b)
{
	struct stat left, right;

	assert_int_equal(stat(path_of(a), &left), 0);
	assert_int_equal(stat(path_of(b), &right), 0);
	return left.st_ino == right.st_ino && left.st_dev == right.st_dev;
}

static unsigned entries(const char *path)
{
	DIR *folder = opendir(path);
	unsigned count = 0;

	assert_non_null(folder);
	for (struct dirent *entry; (entry = readdir(folder));)
		count += entry->d_name[0] != '.';
	closedir(folder);
	return count;
}

static void device_says_what_it_is(void **state)
{
	need_namespaces();
	assert_string_equal(text_of("/sys/bus/pci/devices/0000:6a:01.0/vendor"), "0x8086\n");
	assert_string_equal(text_of("/sys/bus/pci/devices/0000:6a:01.0/device"), "0x2021\n");
	assert_string_equal(text_of("/sys/bus/pci/devices/0000:6a:01.0/class"), "0x088000\n");
	assert_string_equal(text_of("/sys/bus/pci/devices/0000:6a:01.0/numa_node"), "-1\n");
	assert_non_null(strstr(text_of("/sys/bus/pci/devices/0000:6a:01.0/uevent"),
			       "PCI_SLOT_NAME=0000:6a:01.0\n"));
	assert_non_null(strstr(text_of("/sys/bus/pci/devices/0000:6a:01.0/modalias"),
			       "pci:v00008086d00002021sv"));
}

static void links_lead_where_they_should(void **state)
{
	static const char device[] = "/sys/devices/pci0000:6a/0000:6a:01.0";
	static const char *const same[] = {
		"/sys/bus/pci/devices/0000:6a:01.0",
		"/sys/bus/pci/drivers/vfio-pci/0000:6a:01.0",
		"/sys/kernel/iommu_groups/7/devices/0000:6a:01.0",
		"/sys/class/vfio-dev/vfio0/device",
		"/sys/bus/pci/devices/0000:6a:01.0/vfio-dev/vfio0/device",
		"/sys/module/vfio_pci/drivers/pci:vfio-pci/0000:6a:01.0",
	};

	need_namespaces();
	for (size_t i = 0; i < UVF_ARRAY_SIZE(same); i++)
		assert_true(same_file(device, same[i]));
	assert_string_equal(link_of("/sys/bus/pci/devices/0000:6a:01.0/iommu_group"),
			    "../../../kernel/iommu_groups/7");
	assert_string_equal(link_of("/sys/bus/pci/devices/0000:6a:01.0/driver"),
			    "../../../bus/pci/drivers/vfio-pci");
	assert_true(same_file("/sys/bus/pci/devices/0000:6a:01.1/subsystem", "/sys/bus/pci"));
	assert_true(same_file("/sys/class/vfio-dev/vfio1/subsystem", "/sys/class/vfio-dev"));
	assert_true(same_file("/sys/bus/pci/drivers/vfio-pci/module", "/sys/module/vfio_pci"));
	assert_int_equal(entries(path_of("/sys/kernel/iommu_groups/7/devices")), 2);
	assert_string_equal(text_of("/sys/kernel/iommu_groups/9/reserved_regions"),
			    "0x00000000fee00000 0x00000000feefffff msi\n");
}

/* `resource` and the BARs in `config` say the same, and nothing overlaps. */
static void bars_have_places(void **state)
{
	uint64_t first[DEVICES * 6], last[DEVICES * 6];
	size_t count = 0;

	need_namespaces();
	for (size_t i = 0; i < DEVICES; i++) {
		char path[128];
		uint8_t config[64];
		const char *line;
		int fd;

		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", wanted[i].address);
		fd = open(path_of(path), O_RDONLY);
		assert_int_equal(read(fd, config, sizeof(config)), sizeof(config));
		close(fd);
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", wanted[i].address);
		line = text_of(path);
		assert_int_equal(strlen(line), 13 * 57);
		for (unsigned bar = 0; bar < 6; bar++, line += 57) {
			uint64_t start, end, flags;
			uint32_t value = uvf_get_le32(config + 0x10 + 4 * bar);
			bool io = value & 1;

			assert_int_equal(sscanf(line, "%" SCNx64 " %" SCNx64 " %" SCNx64, &start,
						&end, &flags),
					 3);
			if (!flags)
				continue;
			assert_int_equal(flags >> 8 & 3, io ? 1 : 2);
			assert_int_equal(value & (io ? ~3u : ~15u), (uint32_t)start);
			assert_int_equal(flags & 15, value & (io ? 3u : 15u));
			for (size_t k = 0; k < count; k++)
				assert_true((flags & 0x100) != (first[k] < 0x10000 ? 0x100 : 0) ||
					    end < first[k] || start > last[k]);
			first[count] = start;
			last[count++] = end;
		}
	}
	assert_true(count >= DEVICES);
}

static void device_files_have_numbers(void **state)
{
	struct stat status;
	char text[32];
	dev_t rdev = uapi_device_rdev(1);

	need_namespaces();
	snprintf(text, sizeof(text), "%u:%u\n", major(rdev), minor(rdev));
	assert_string_equal(text_of("/sys/bus/pci/devices/0000:6a:01.1/vfio-dev/vfio1/dev"), text);
	assert_int_equal(stat(path_of("/dev/vfio/devices/vfio1"), &status), 0);
	assert_true(!S_ISCHR(status.st_mode) || status.st_rdev == rdev);
	assert_int_equal(stat(path_of("/dev/vfio/vfio"), &status), 0);
	assert_int_equal(stat(path_of("/dev/vfio/7"), &status), 0);
	assert_int_equal(stat(path_of("/dev/vfio/9"), &status), 0);
	assert_int_equal(stat(path_of("/dev/iommu"), &status), 0);
	assert_int_not_equal(rdev, uapi_group_rdev(1));
	assert_int_not_equal(rdev, uapi_device_rdev(0));
	assert_int_equal(uapi_container_rdev(), makedev(10, 196));
}

static void machine_stays(void **state)
{
	static const char *const folders[] = {"/sys/class", "/sys/devices", "/sys/kernel",
					      "/sys/module", "/dev"};
	int fd;

	need_namespaces();
	for (size_t i = 0; i < UVF_ARRAY_SIZE(folders); i++)
		assert_true(entries(path_of(folders[i])) >= entries(folders[i]));
	fd = open(path_of("/dev/null"), O_WRONLY);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
	assert_int_equal(access(path_of("/sys/devices/system/cpu/online"), R_OK), 0);
	assert_int_equal(access(path_of("/dev/shm"), W_OK), 0);
	/* A device of ours on a bus of the machine's hides none of its. */
	if (access("/sys/devices/pci0000:00", F_OK) == 0)
		assert_true(entries(path_of("/sys/devices/pci0000:00")) >
			    entries("/sys/devices/pci0000:00"));
}

static void only_ours_are_on_the_bus(void **state)
{
	need_namespaces();
	assert_int_equal(entries(path_of("/sys/bus/pci/devices")), DEVICES);
	assert_int_equal(entries(path_of("/sys/bus/pci/drivers")), 1);
	assert_int_equal(entries(path_of("/sys/kernel/iommu_groups")), 2);
	assert_int_equal(entries(path_of("/dev/vfio")), 4);
}

/* What the driver changes shows at the next open; BARs are this machine's. */
static void config_is_what_it_is_now(void **state)
{
	static const char *const paths[] = {
		"/sys/bus/pci/devices/0000:6a:01.0/config",
		"/sys/devices/pci0000:6a/0000:6a:01.0/config",
		"/sys/class/vfio-dev/vfio0/device/config",
		"/sys/kernel/iommu_groups/7/devices/0000:6a:01.0/config",
	};
	struct uvf_device *dev = world.devices[0].dev;
	uint8_t before[64], now[64], bar[4] = {0, 0, 0xdd, 0xdd};

	need_namespaces();
	assert_int_equal(uvf_device_open(dev), 0);
	for (uint8_t i = 0; i < UVF_ARRAY_SIZE(paths); i++) {
		int fd = open(path_of(paths[i]), O_RDONLY);
		uint8_t line = (uint8_t)(0x40 + i);

		assert_int_equal(read(fd, before, sizeof(before)), sizeof(before));
		close(fd);
		assert_int_equal(uvf_region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX,
						  PCI_INTERRUPT_LINE, &line, 1),
				 1);
		assert_int_equal(uvf_region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX,
						  PCI_BASE_ADDRESS_0, bar, 4),
				 4);
		uapi_sysfs_refresh(&world.run, paths[i]);
		fd = open(path_of(paths[i]), O_RDONLY);
		assert_int_equal(read(fd, now, sizeof(now)), sizeof(now));
		close(fd);
		assert_int_equal(now[PCI_INTERRUPT_LINE], line);
		assert_memory_equal(now + PCI_BASE_ADDRESS_0, before + PCI_BASE_ADDRESS_0, 24);
	}
	uvf_device_close(dev);
	/* Others are nobody's. */
	uapi_sysfs_refresh(&world.run, "/sys/bus/pci/devices/0000:99:00.0/config");
	uapi_sysfs_refresh(&world.run, "/home/0000:6a:01.0/config");
}

/* The program may own its files, and what it makes of them holds nobody up. */
static void a_pipe_instead_of_config(void **state)
{
	static const char path[] = "/sys/bus/pci/devices/0000:00:1f.7/config";
	struct uvf_device *dev = world.devices[2].dev;
	const uint8_t line = 0x77;

	need_namespaces();
	if (unlink(path_of(path)) < 0 || mkfifo(path_of(path), 0600) < 0)
		skip();
	assert_int_equal(uvf_device_open(dev), 0);
	assert_int_equal(
		uvf_region_write(dev, VFIO_PCI_CONFIG_REGION_INDEX, PCI_INTERRUPT_LINE, &line, 1),
		1);
	alarm(20);
	uapi_sysfs_refresh(&world.run, path);
	alarm(0);
	uvf_device_close(dev);
}

static void removed_device_reads_as_ones(void **state)
{
	static const char path[] = "/sys/bus/pci/devices/0000:6a:01.1/config";
	uint8_t config[64];
	int fd;

	need_namespaces();
	uvf_device_remove(world.devices[1].dev);
	uapi_sysfs_refresh(&world.run, path);
	fd = open(path_of(path), O_RDONLY);
	assert_int_equal(read(fd, config, sizeof(config)), sizeof(config));
	close(fd);
	for (size_t i = 0; i < sizeof(config); i++)
		assert_int_equal(config[i], 0xff);
}

static void everyone_may_read(void **state)
{
	struct stat status;

	need_namespaces();
	assert_int_equal(stat(path_of("/sys/bus/pci/devices/0000:6a:01.0/config"), &status), 0);
	assert_int_equal(status.st_mode & 0777, 0644);
	assert_int_equal(stat(path_of("/sys/bus/pci/devices/0000:6a:01.0"), &status), 0);
	assert_int_equal(status.st_mode & 0777, 0755);
	assert_int_equal(stat(path_of("/dev/vfio/7"), &status), 0);
	assert_int_equal(status.st_mode & 0777, 0666);
}

static void folder_is_before_what_is_in_it(void **state)
{
	struct uapi_tree tree = {0};

	uapi_tree_file(&tree, "/a", "c", 0444, "x");
	uapi_tree_folder(&tree, "/a-b");
	uapi_tree_folder(&tree, "/a");
	uapi_tree_link(&tree, "/a-b", "d", "../%s", "a");
	assert_int_equal(uapi_tree_complete(&tree), 0);
	assert_string_equal(tree.nodes[0].path, "/a");
	assert_string_equal(tree.nodes[1].path, "/a/c");
	assert_string_equal(tree.nodes[2].path, "/a-b");
	assert_string_equal(tree.nodes[3].text, "../a");
	uapi_tree_free(&tree);
}

static void cpus_are_as_the_kernel_writes_them(void **state)
{
	struct uapi_cpus cpus;
	char line[256] = "";
	FILE *file = fopen("/sys/devices/system/node/node0/cpumap", "re");

	uapi_cpus_of_node(-1, &cpus);
	assert_true(cpus.list[0] && cpus.mask[0]);
	if (!file)
		return;
	assert_non_null(fgets(line, sizeof(line), file));
	fclose(file);
	line[strcspn(line, "\n")] = '\0';
	uapi_cpus_of_node(0, &cpus);
	assert_string_equal(cpus.mask, line);
}

#define BOTH(function)                                                   \
	cmocka_unit_test_setup_teardown(function, setup_user, teardown), \
		cmocka_unit_test_setup_teardown(function, setup_self, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(device_says_what_it_is),
		BOTH(links_lead_where_they_should),
		BOTH(bars_have_places),
		BOTH(device_files_have_numbers),
		BOTH(machine_stays),
		BOTH(only_ours_are_on_the_bus),
		BOTH(config_is_what_it_is_now),
		BOTH(a_pipe_instead_of_config),
		BOTH(removed_device_reads_as_ones),
		BOTH(everyone_may_read),
		cmocka_unit_test(folder_is_before_what_is_in_it),
		cmocka_unit_test(cpus_are_as_the_kernel_writes_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
