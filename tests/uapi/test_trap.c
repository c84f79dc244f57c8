/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Regions that programs map, and accesses that trap. Without arguments this is the supervisor: each
 * case is a program of its own, started from this binary with the case's name.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/pci_regs.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

#include "trap_world.h"

#define CASE_SECONDS 120

/* ---- The devices ---- */

struct world {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool open;
	atomic_uint waiting;
};

struct model {
	struct world *world;
	uint8_t storage[BAR_SIZE];
	uint64_t control[8];
};

static struct world world = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER};

static uint64_t read_control(struct model *model, uint64_t at)
{
	const struct timespec some = {0, 5000000};

	switch (at) {
	case COUNTER:
		return ++model->control[(COUNTER - CONTROL) / 8];
	case SLEEPY:
		nanosleep(&some, NULL);
		return 1;
	case GATED:
		pthread_mutex_lock(&world.lock);
		world.waiting++;
		while (!world.open)
			pthread_cond_wait(&world.changed, &world.lock);
		world.waiting--;
		pthread_mutex_unlock(&world.lock);
		return 2;
	case WAITING:
		return world.waiting;
	default:
		return model->control[(at - CONTROL) / 8];
	}
}

static void count_access(struct model *model, uint64_t offset, size_t count)
{
	model->control[(LAST_SIZE - CONTROL) / 8] = count;
	model->control[(LAST_OFFSET - CONTROL) / 8] = offset;
	model->control[(ACCESSES - CONTROL) / 8]++;
}

static int bar_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		    size_t count)
{
	struct model *model = uvf_device_opaque(dev);
	uint64_t value;

	if (offset >= CONTROL && offset + count <= CONTROL + 64) {
		value = read_control(model, offset & ~7ULL) >> (offset & 7) * 8;
		memcpy(buf, &value, count);
		return 0;
	}
	if (offset < AREA)
		count_access(model, offset, count);
	memcpy(buf, model->storage + offset, count);
	return 0;
}

static int bar_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		     size_t count)
{
	struct model *model = uvf_device_opaque(dev);

	if (offset == GATE) {
		pthread_mutex_lock(&world.lock);
		world.open = *(const uint8_t *)buf;
		pthread_cond_broadcast(&world.changed);
		pthread_mutex_unlock(&world.lock);
		return 0;
	}
	if (offset < AREA)
		count_access(model, offset, count);
	memcpy(model->storage + offset, buf, count);
	return 0;
}

static struct uvf_device *make_device(struct model *model)
{
	static const struct uvf_pci_bar_area areas[] = {{AREA, 2 * PAGE}, {SECOND, PAGE}};
	static const struct uvf_device_ops ops = {0};
	static const struct uvf_pci_description description = {
		.vendor = 0x1b36,
		.device = 0x0010,
		.class_code = 0x088000,
		.bars[0] = {.kind = UVF_PCI_BAR_MEM64,
			    .size = BAR_SIZE,
			    .read = bar_read,
			    .write = bar_write,
			    .areas = areas,
			    .area_count = 2},
	};
	struct uvf_error error = {""};
	struct uvf_device *dev;

	if (uvf_pci_new("trap", &description, &ops, model, &dev, &error)) {
		fprintf(stderr, "%s\n", error.text);
		exit(1);
	}
	return dev;
}

/* ---- The program's side of them ---- */

int open_device(unsigned device)
{
	int container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC), group, fd;
	uint16_t command = PCI_COMMAND_MEMORY;
	struct vfio_region_info info = {.argsz = sizeof(info),
					.index = VFIO_PCI_CONFIG_REGION_INDEX};
	char path[32], address[16];

	CHECK(container >= 0);
	snprintf(path, sizeof(path), "/dev/vfio/%u", GROUP(device));
	group = open(path, O_RDWR | O_CLOEXEC);
	CHECK(group >= 0);
	CHECK(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) == 0);
	CHECK(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0);
	snprintf(address, sizeof(address), "0000:%02x:00.0", 1 + device);
	fd = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
	CHECK(fd >= 0);
	CHECK(ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, &info) == 0);
	CHECK(pwrite(fd, &command, 2, (off_t)info.offset + PCI_COMMAND) == 2);
	return fd;
}

volatile void *map_bar(int fd, uint64_t offset, uint64_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);

	CHECK(at != MAP_FAILED);
	return at;
}

int tracer_of_self(void)
{
	char line[256];
	int tracer = -1;
	FILE *file = fopen("/proc/thread-self/status", "re");

	CHECK(file);
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, "TracerPid:", 10) == 0)
			tracer = (int)strtol(line + 10, NULL, 10);
	fclose(file);
	CHECK(tracer >= 0);
	return tracer;
}

volatile uint8_t *bar;

void map_all(void)
{
	bar = map_bar(open_device(0), 0, BAR_SIZE);
}

/* ---- The supervisor ---- */

static void show(void *opaque, enum uvf_log_level level, const char *who, const char *text)
{
	fprintf(stderr, "# %s: %s\n", who, text);
}

static int run_case(const char *self, const struct trap_case *one)
{
	static struct model models[2];
	struct uvf_run_device devices[2];
	char *argv[] = {(char *)self, (char *)one->name, NULL};
	struct uvf_run_config config = {
		.devices = devices,
		.device_count = 2,
		.argv = argv,
		.namespaces_off = true,
		.log = {.fn = show, .level = UVF_LOG_WARNING},
	};
	const struct timespec pause = {one->kill_after_ms / 1000,
				       one->kill_after_ms % 1000 * 1000000L};
	struct uvf_error error = {""};
	struct uvf_run *run;
	int status = -1;

	memset(models, 0, sizeof(models));
	memset(devices, 0, sizeof(devices));
	world.open = false;
	for (int i = 0; i < 2; i++) {
		devices[i].dev = make_device(&models[i]);
		devices[i].group = GROUP(i);
		devices[i].numa_node = -1;
	}
	if (uvf_run_start(&config, &run, &error)) {
		fprintf(stderr, "%s\n", error.text);
		return 1;
	}
	if (one->kill_after_ms) {
		nanosleep(&pause, NULL);
		uvf_run_signal(run, SIGKILL);
		/* A device that holds an access for ever would hold up the end, too. */
		pthread_mutex_lock(&world.lock);
		world.open = true;
		pthread_cond_broadcast(&world.changed);
		pthread_mutex_unlock(&world.lock);
	}
	uvf_run_wait(run, &status);
	uvf_run_free(run);
	for (int i = 0; i < 2; i++)
		uvf_device_free(devices[i].dev);
	if (one->kill_after_ms ? status != SIGKILL : status != 0) {
		printf("%s: status %x\n", one->name, (unsigned)status);
		return 1;
	}
	printf("%s\n", one->name);
	fflush(stdout);
	return 0;
}

static void become_user(void)
{
	if (geteuid() == 0 &&
	    (setgroups(0, NULL) || setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000))) {
		perror("becoming an ordinary user");
		exit(77); /* skipped */
	}
}

/* Does not return if one of @cases is @name. */
static void run_program(const struct trap_case *cases, const char *name)
{
	for (; cases->name; cases++)
		if (strcmp(name, cases->name) == 0) {
			alarm(CASE_SECONDS);
			cases->run();
			/* What looks for leaks at exit() can't while somebody else traces. */
			_exit(0);
		}
}

/* TRAP_ONLY names one case. */
static int run_cases(const char *self, const struct trap_case *cases)
{
	const char *only = getenv("TRAP_ONLY");
	int failed = 0;

	for (; cases->name; cases++)
		if (!only || strcmp(only, cases->name) == 0)
			failed += run_case(self, cases);
	return failed;
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "user") != 0) {
		run_program(trap_access_cases, argv[1]);
		run_program(trap_thread_cases, argv[1]);
		fprintf(stderr, "there is no %s\n", argv[1]);
		return 2;
	}
	if (argc > 1)
		become_user();
	return run_cases(argv[0], trap_access_cases) + run_cases(argv[0], trap_thread_cases) > 0;
}
