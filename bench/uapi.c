/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What does it cost a program to have us in place of a kernel's VFIO? Trapped calls against a bare
 * round trip of a seccomp notification, accesses to mapped regions against memory, DMA mappings
 * while others are live, and calls of the program's that are not for us against the same calls
 * without us. `--json` for machines.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uvfio/uvfio.h>

#define PAGE 4096ULL
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS	   SECCOMP_IOW(4, __u64)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

static bool json;
static unsigned printed;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void check(int ret, const char *what)
{
	if (ret >= 0)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-ret));
	exit(1);
}

static void print(const char *what, uint64_t mappings, double figure, double floor)
{
	if (json) {
		printf("%s{\"name\":\"%s\",", printed++ ? ",\n " : "[", what);
		if (mappings)
			printf("\"mappings\":%llu,", (unsigned long long)mappings);
		printf("\"figure\":%.3f,\"unit\":\"ns\",\"floor\":%.3f}", figure, floor);
	} else {
		printf("%-44s", what);
		if (mappings)
			printf("%9llu", (unsigned long long)mappings);
		else
			printf("%9s", "");
		printf("%12.2f ns  floor %10.2f  ratio %.2f\n", figure, floor, figure / floor);
	}
	fflush(stdout);
}

/* ---- Floors ---- */

static int by_value(const void *a, const void *b)
{
	uint64_t first = *(const uint64_t *)a, second = *(const uint64_t *)b;

	return (first > second) - (first < second);
}

/* In the child: calls that are notified, and the median of what they took. */
static void call_notified(int out)
{
	enum { CALLS = 20001 };
	static uint64_t took[CALLS];

	for (unsigned i = 0; i < CALLS; i++) {
		uint64_t begun = now_ns();

		syscall(SYS_getppid);
		took[i] = now_ns() - begun;
	}
	qsort(took, CALLS, sizeof(took[0]), by_value);
	if (write(out, &took[CALLS / 2], sizeof(took[0])) != sizeof(took[0]))
		_exit(1);
	_exit(0);
}

static void answer_until_gone(int listener)
{
	struct seccomp_notif request;
	struct seccomp_notif_resp answer;

	for (;;) {
		memset(&request, 0, sizeof(request));
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &request))
			return;
		answer = (struct seccomp_notif_resp){.id = request.id, .val = 1};
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

/* getppid() answered by another process that does nothing else. */
static double bare_notification(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int result[2];
	uint64_t median;
	pid_t worker, caller;

	check(pipe(result), "pipe");
	caller = fork();
	check(caller, "fork");
	if (!caller) {
		int listener;

		seccomp_rule_add(filter, SCMP_ACT_NOTIFY, SCMP_SYS(getppid), 0);
		check(seccomp_load(filter), "seccomp_load");
		listener = seccomp_notify_fd(filter);
		worker = fork();
		check(worker, "fork");
		if (!worker) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS,
			      SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
			close(result[1]);
			answer_until_gone(listener);
			_exit(0);
		}
		close(listener);
		call_notified(result[1]);
	}
	close(result[1]);
	if (read(result[0], &median, sizeof(median)) != sizeof(median))
		exit(1);
	close(result[0]);
	seccomp_release(filter);
	waitpid(caller, NULL, 0);
	return (double)median;
}

static double memory_read(void)
{
	static volatile uint32_t word;
	uint64_t begun = now_ns();

	for (unsigned i = 0; i < 10000000; i++)
		(void)word;
	return (double)(now_ns() - begun) / 10000000;
}

/* ---- The devices: BAR 0 is registers, or memory that can be mapped ---- */

static uint8_t registers[PAGE];

static int bar_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		    size_t count)
{
	memcpy(buf, registers + offset, count);
	return 0;
}

static int bar_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		     size_t count)
{
	memcpy(registers + offset, buf, count);
	return 0;
}

static int reset(struct uvf_device *dev, enum uvf_reset kind)
{
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

/* What can be mapped goes while the device's state is saved. */
static struct uvf_device *device_new(bool mappable)
{
	static const struct uvf_pci_bar_area area = {0, PAGE, UVF_AREA_NOT_WHILE_SAVING};
	static const struct uvf_device_ops ops = {.reset = reset};
	static const char *const sections[] = {NULL};
	static const struct uvf_migration_ops migration = {
		.name = "bench",
		.major = 1,
		.sections = sections,
		.save = save,
		.load = load,
		.save_early = save,
	};
	struct uvf_pci_description description = {
		.vendor = 0x1234,
		.device = 0x1234,
		.class_code = 0xff0000,
		.bars = {{.kind = UVF_PCI_BAR_MEM32,
			  .size = PAGE,
			  .read = bar_read,
			  .write = bar_write,
			  .areas = &area,
			  .area_count = mappable,
			  .areas_change = mappable}},
	};
	struct uvf_device *dev;
	struct uvf_error error = {""};

	if (uvf_pci_new(mappable ? "mapped" : "trapped", &description, &ops, NULL, &dev, &error)) {
		fprintf(stderr, "%s\n", error.text);
		exit(1);
	}
	uvf_device_set_migration(dev, &migration);
	uvf_device_set_remap_timeout(dev, 60000); /* a busy machine is no reason to end */
	return dev;
}

/* ---- The program ---- */

struct figure {
	char name[64];
	unsigned long long mappings;
	double ns;
};

static size_t read_figures(FILE *results, struct figure *figures, size_t max)
{
	char line[160];
	size_t count = 0;

	while (count < max && fgets(line, sizeof(line), results))
		count += sscanf(line, "%63[^\t]\t%llu\t%lf", figures[count].name,
				&figures[count].mappings, &figures[count].ns) == 3;
	return count;
}

/* Descriptor 3 of the program is a file that we read when it has ended. */
static FILE *results_file(void)
{
	FILE *file = tmpfile();

	check(file ? 0 : -errno, "tmpfile");
	if (fileno(file) != 3)
		check(dup2(fileno(file), 3), "dup2");
	return file;
}

static size_t run_without(char **argv, struct figure *figures, size_t max)
{
	FILE *results = results_file();
	size_t count;
	int status;
	pid_t child = fork();

	check(child, "fork");
	if (!child) {
		execv(argv[0], argv);
		_exit(127);
	}
	waitpid(child, &status, 0);
	check(status ? -EIO : 0, argv[0]);
	rewind(results);
	count = read_figures(results, figures, max);
	fclose(results);
	return count;
}

static size_t run_with(char **argv, struct figure *figures, size_t max)
{
	/* Before others take descriptor 3. */
	FILE *results = results_file();
	struct uvf_run_device devices[] = {
		{.dev = device_new(false), .address = "0000:01:00.0", .group = 1, .numa_node = -1},
		{.dev = device_new(true), .address = "0000:02:00.0", .group = 2, .numa_node = -1},
	};
	struct uvf_run_config config = {
		.devices = devices,
		.device_count = 2,
		.argv = argv,
		.max_mappings = 100000,
	};
	struct uvf_error error = {""};
	struct uvf_run *run;
	size_t count;
	int status;

	if (uvf_run_start(&config, &run, &error)) {
		fprintf(stderr, "run: %s\n", error.text);
		exit(1);
	}
	check(uvf_run_wait(run, &status), "wait");
	check(status ? -EIO : 0, argv[0]);
	uvf_run_free(run);
	uvf_device_free(devices[0].dev);
	uvf_device_free(devices[1].dev);
	rewind(results);
	count = read_figures(results, figures, max);
	fclose(results);
	return count;
}

int main(int argc, char **argv)
{
	enum { MAX = 32 };
	struct figure without[MAX], with[MAX];
	char program[4096];
	char *plain[] = {program, "plain", NULL};
	char *drive[] = {program, "drive", "0000:01:00.0", "0000:02:00.0", NULL};
	double notification, memory;
	size_t count;

	json = argc > 1 && !strcmp(argv[1], "--json");
	snprintf(program, sizeof(program), "%.*suapi_program",
		 (int)(strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 - argv[0] : 0), argv[0]);
	notification = bare_notification();
	memory = memory_read();
	count = run_with(drive, with, MAX);
	for (size_t i = 0; i < count; i++)
		print(with[i].name, with[i].mappings, with[i].ns,
		      strstr(with[i].name, "mapped area") ? memory : notification);
	count = run_without(plain, without, MAX);
	if (run_with(plain, with, MAX) != count)
		return 1;
	for (size_t i = 0; i < count; i++)
		print(with[i].name, 0, with[i].ns, without[i].ns);
	if (json)
		puts("]");
	return 0;
}
