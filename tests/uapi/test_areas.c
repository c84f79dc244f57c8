/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Regions whose areas change while programs have them mapped. Without arguments this is the
 * supervisor: each case is a program of its own, started from this binary with the case's name,
 * once with namespaces of its own and once without.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <uvfio/uvfio.h>

#include "areas_world.h"

#define CASE_SECONDS 120

/* ---- The device ---- */

struct model {
	struct uvf_device *dev;
	uint8_t *memory;
	pthread_t thread;
	atomic_bool stopping;
	atomic_bool away; /* the doorbells: they come as calls, nobody looks at the memory */
	atomic_ullong calls;
	uint64_t seen[SLOTS];
	struct uvf_area areas[2];
};

static volatile uint64_t *completion(struct model *model, size_t slot)
{
	return (volatile uint64_t *)(void *)(model->memory + COMPLETIONS) + slot;
}

/* With the device's lock. */
static void ring(struct model *model, size_t slot, uint64_t value)
{
	if (value <= model->seen[slot])
		return;
	model->seen[slot] = value;
	__atomic_store_n(completion(model, slot), value, __ATOMIC_RELEASE);
}

static void look_at_memory(struct model *model)
{
	volatile uint64_t *doorbells = (volatile uint64_t *)(void *)(model->memory + DOORBELLS);

	for (size_t i = 0; i < SLOTS; i++)
		ring(model, i, __atomic_load_n(&doorbells[i], __ATOMIC_ACQUIRE));
}

static void *poll_doorbells(void *opaque)
{
	const struct timespec some = {0, 20000};
	struct model *model = opaque;

	while (!atomic_load(&model->stopping)) {
		uvf_device_lock(model->dev);
		if (!atomic_load(&model->away))
			look_at_memory(model);
		uvf_device_unlock(model->dev);
		nanosleep(&some, NULL);
	}
	return NULL;
}

/* What was rung before is in the memory; from now on there are calls. */
static void areas_settled(struct uvf_device *dev, uint32_t index, int result)
{
	struct model *model = uvf_device_opaque(dev);

	if (result)
		return;
	look_at_memory(model);
	atomic_store(&model->away, true);
}

static void areas_return(struct uvf_device *dev, uint32_t index)
{
	struct model *model = uvf_device_opaque(dev);

	memcpy(model->memory + DOORBELLS, model->seen, sizeof(model->seen));
	atomic_store(&model->away, false);
}

/* The doorbells go at run time, or come back. */
static int shuffle(struct model *model, bool go)
{
	int ret;

	/* Before that was settled the memory is what counts. */
	if (!go && atomic_load(&model->away))
		areas_return(model->dev, 0);
	ret = uvf_region_set_areas(model->dev, 0, go ? &model->areas[1] : model->areas, go ? 1 : 2);
	if (!ret && go)
		areas_settled(model->dev, 0, 0);
	return ret == -EINPROGRESS ? 0 : ret;
}

static int bar_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		    size_t count)
{
	struct model *model = uvf_device_opaque(dev);
	uint64_t calls = atomic_load(&model->calls);

	if (offset == CALLS && count == 8) {
		memcpy(buf, &calls, count);
		return 0;
	}
	memcpy(buf, model->memory + offset, count);
	return 0;
}

static int bar_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		     size_t count)
{
	struct model *model = uvf_device_opaque(dev);
	uint64_t value = 0;

	memcpy(&value, buf, count < 8 ? count : 8);
	if (offset == SHUFFLE)
		return shuffle(model, value);
	if (offset >= DOORBELLS && offset < DOORBELLS + SLOTS * 8) {
		atomic_fetch_add(&model->calls, 1);
		ring(model, (offset - DOORBELLS) / 8, value);
	}
	return 0;
}

static int reset(struct uvf_device *dev, enum uvf_reset kind)
{
	struct model *model = uvf_device_opaque(dev);

	memset(model->memory, 0, BAR_SIZE);
	memset(model->seen, 0, sizeof(model->seen));
	atomic_store(&model->away, false);
	return 0;
}

static int save(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	return 0;
}

static int load(struct uvf_device *dev, struct uvf_state_reader *reader)
{
	return 0;
}

static const char *const sections[] = {NULL};
static const struct uvf_migration_ops migration = {
	.name = "areas",
	.major = 1,
	.sections = sections,
	.save = save,
	.load = load,
	.save_early = save,
};

/* Where the frontend does it a busy machine isn't what ends the wait. */
static void make_device(struct model *model, uint32_t timeout_ms)
{
	static const struct uvf_pci_bar_area areas[] = {
		{DOORBELLS, 2 * PAGE, UVF_AREA_NOT_WHILE_SAVING}, {COMPLETIONS, PAGE, 0}};
	static const struct uvf_device_ops ops = {
		.reset = reset,
		.areas_settled = areas_settled,
		.areas_return = areas_return,
	};
	static const struct uvf_pci_description description = {
		.vendor = 0x1b36,
		.device = 0x0010,
		.class_code = 0x088000,
		.bars[0] = {.kind = UVF_PCI_BAR_MEM64,
			    .size = BAR_SIZE,
			    .read = bar_read,
			    .write = bar_write,
			    .areas = areas,
			    .area_count = 2,
			    .areas_change = true},
	};
	struct uvf_region_info info;
	struct uvf_error error = {""};

	memset(model, 0, sizeof(*model));
	if (uvf_pci_new("areas", &description, &ops, model, &model->dev, &error)) {
		fprintf(stderr, "%s\n", error.text);
		exit(1);
	}
	uvf_device_set_migration(model->dev, &migration);
	uvf_device_set_remap_timeout(model->dev, timeout_ms);
	model->memory = uvf_pci_bar_memory(model->dev, 0);
	if (uvf_region_get_info(model->dev, 0, &info) || info.area_count != 2)
		exit(1);
	memcpy(model->areas, info.areas, sizeof(model->areas));
	if (pthread_create(&model->thread, NULL, poll_doorbells, model))
		exit(1);
}

static void free_device(struct model *model)
{
	atomic_store(&model->stopping, true);
	pthread_join(model->thread, NULL);
	uvf_device_free(model->dev);
}

/* ---- The program's side of it ---- */

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

volatile uint8_t *map_bar(int fd, uint64_t offset, uint64_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);

	CHECK(at != MAP_FAILED);
	return at;
}

struct state_feature { /* struct vfio_device_feature with its data */
	uint32_t argsz, flags;
	struct vfio_device_feature_mig_state state;
};

int set_state(int fd, uint32_t state)
{
	struct state_feature feature = {
		.argsz = sizeof(feature),
		.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
		.state = {.device_state = state, .data_fd = -7},
	};
	bool has_fd = state == VFIO_DEVICE_STATE_PRE_COPY;

	if (ioctl(fd, VFIO_DEVICE_FEATURE, &feature))
		return -errno;
	CHECK(feature.state.device_state == state);
	CHECK(has_fd ? feature.state.data_fd >= 0 : feature.state.data_fd == -1);
	if (has_fd)
		CHECK(close(feature.state.data_fd) == 0);
	return 0;
}

uint32_t get_state(int fd)
{
	struct state_feature feature = {
		.argsz = sizeof(feature),
		.flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
	};

	CHECK(ioctl(fd, VFIO_DEVICE_FEATURE, &feature) == 0);
	return feature.state.device_state;
}

uint64_t read_register(int fd, uint64_t offset)
{
	uint64_t value;

	CHECK(pread(fd, &value, 8, (off_t)offset) == 8);
	return value;
}

void write_register(int fd, uint64_t offset, uint64_t value)
{
	CHECK(pwrite(fd, &value, 8, (off_t)offset) == 8);
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

/* ---- The supervisor ---- */

static void show(void *opaque, enum uvf_log_level level, const char *who, const char *text)
{
	fprintf(stderr, "# %s: %s\n", who, text);
}

static int run_case(const char *self, const struct areas_case *one, bool namespaces)
{
	static struct model models[2];
	struct uvf_run_device devices[2] = {{.numa_node = -1}, {.numa_node = -1}};
	char *argv[] = {(char *)self, (char *)one->name, NULL};
	struct uvf_run_config config = {
		.devices = devices,
		.device_count = 2,
		.argv = argv,
		.namespaces_off = !namespaces,
		.log = {.fn = show, .level = UVF_LOG_WARNING},
	};
	const struct timespec pause = {one->kill_after_ms / 1000,
				       one->kill_after_ms % 1000 * 1000000L};
	struct uvf_error error = {""};
	struct uvf_run *run;
	int status = -1;

	for (int i = 0; i < 2; i++) {
		make_device(&models[i], i ? 5000 : 60000);
		devices[i].dev = models[i].dev;
		devices[i].group = GROUP(i);
	}
	devices[1].trap[0] = UVF_RUN_TRAP_OFF;
	if (uvf_run_start(&config, &run, &error)) {
		fprintf(stderr, "%s\n", error.text);
		exit(1);
	}
	if (one->kill_after_ms) {
		nanosleep(&pause, NULL);
		uvf_run_signal(run, SIGKILL);
	}
	uvf_run_wait(run, &status);
	uvf_run_free(run);
	for (int i = 0; i < 2; i++)
		free_device(&models[i]);
	if (one->kill_after_ms ? status != SIGKILL : status != 0) {
		printf("%s: status %x\n", one->name, (unsigned)status);
		return 1;
	}
	printf("%s%s\n", one->name, namespaces ? "" : ", no namespaces");
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
	/* Else /proc/self is still the superuser's. */
	prctl(PR_SET_DUMPABLE, 1);
}

/* Does not return if one of @cases is @name. */
static void run_program(const struct areas_case *cases, const char *name)
{
	for (; cases->name; cases++)
		if (strcmp(name, cases->name) == 0) {
			alarm(CASE_SECONDS);
			cases->run();
			/* What looks for leaks at exit() can't while somebody else traces. */
			_exit(0);
		}
}

/* AREAS_ONLY names one case. */
static int run_cases(const char *self, const struct areas_case *cases)
{
	const char *only = getenv("AREAS_ONLY");
	int failed = 0;

	for (; cases->name; cases++)
		if (!only || strcmp(only, cases->name) == 0) {
			failed += run_case(self, cases, true);
			failed += cases->namespaces ? 0 : run_case(self, cases, false);
		}
	return failed;
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "user") != 0) {
		run_program(areas_cases, argv[1]);
		run_program(areas_follow_cases, argv[1]);
		fprintf(stderr, "there is no %s\n", argv[1]);
		return 2;
	}
	if (argc > 1)
		become_user();
	return run_cases(argv[0], areas_cases) + run_cases(argv[0], areas_follow_cases) > 0;
}
