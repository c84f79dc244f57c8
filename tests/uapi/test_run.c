/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Programs under supervision, from their start to their end: program.c's cases, and what goes
 * wrong.
 *
 *   test_run PROGRAM [user]    as who calls it, or as an ordinary user, if that is the superuser
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
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uvfio/pci.h>
#include <uvfio/run.h>

#include "registers.h"

#define ORDINARY_USER 1000
#define WAIT_MS	      20000

static const char *program;

/* ---- A device with calls that last ---- */

/* Of both devices: one lasts, and the other ends it. */
struct gate {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned waiting;
	bool close_waits;
	unsigned ended;
};

struct model {
	struct gate *gate;
	uint32_t scratch;
	bool close_waits;
};

static void wait_at(struct gate *gate)
{
	unsigned before;

	pthread_mutex_lock(&gate->lock);
	before = gate->ended;
	gate->waiting++;
	pthread_cond_broadcast(&gate->changed);
	while (gate->ended == before)
		pthread_cond_wait(&gate->changed, &gate->lock);
	gate->waiting--;
	pthread_mutex_unlock(&gate->lock);
}

static void wait_until_waiting(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	while (!gate->waiting)
		pthread_cond_wait(&gate->changed, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}

static void open_gate(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->ended++;
	pthread_cond_broadcast(&gate->changed);
	pthread_mutex_unlock(&gate->lock);
}

static void *open_soon(void *opaque)
{
	usleep(50000);
	open_gate(opaque);
	return NULL;
}

static int model_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		      size_t count)
{
	struct model *model = uvf_device_opaque(dev);
	uint32_t value = 0;

	if (offset == REGISTER_SCRATCH)
		value = model->scratch;
	if (offset == REGISTER_SECOND)
		value = REGISTER_SECOND_VALUE;
	if (offset == REGISTER_BLOCK) {
		wait_at(model->gate);
		value = 1;
	}
	if (offset == REGISTER_BLOCKED) {
		pthread_mutex_lock(&model->gate->lock);
		value = model->gate->waiting;
		pthread_mutex_unlock(&model->gate->lock);
	}
	memcpy(buf, &value, count);
	return 0;
}

static int model_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
		       size_t count)
{
	struct model *model = uvf_device_opaque(dev);
	pthread_t thread;

	if (offset == REGISTER_SCRATCH)
		memcpy(&model->scratch, buf, count);
	if (offset == REGISTER_BLOCK)
		model->close_waits = true;
	if (offset == REGISTER_UNBLOCK)
		open_gate(model->gate);
	if (offset == REGISTER_UNBLOCK_SOON &&
	    !pthread_create(&thread, NULL, open_soon, model->gate))
		pthread_detach(thread);
	return 0;
}

static int model_reset(struct uvf_device *dev, enum uvf_reset kind)
{
	struct model *model = uvf_device_opaque(dev);

	model->scratch = 0;
	return 0;
}

static void model_close(struct uvf_device *dev)
{
	struct model *model = uvf_device_opaque(dev);

	if (model->close_waits)
		wait_at(model->gate);
	model->close_waits = false;
}

static const struct uvf_device_ops model_ops = {.reset = model_reset, .close = model_close};
static const struct uvf_pci_description model_pci = {
	.vendor = REGISTERS_VENDOR,
	.device = REGISTERS_DEVICE,
	.class_code = 0x088000,
	.bars[0] = {.kind = UVF_PCI_BAR_MEM32,
		    .size = REGISTERS_SIZE,
		    .read = model_read,
		    .write = model_write},
};

/* ---- Runs ---- */

struct bench {
	struct gate gate;
	struct model models[2];
	struct uvf_run_device devices[2];
	struct uvf_run_config config;
};

static void bench_new(struct bench *bench)
{
	*bench = (struct bench){0};
	pthread_mutex_init(&bench->gate.lock, NULL);
	pthread_cond_init(&bench->gate.changed, NULL);
	for (size_t i = 0; i < 2; i++) {
		struct uvf_error error = {""};

		bench->models[i].gate = &bench->gate;
		bench->devices[i] = (struct uvf_run_device){.group = -1, .numa_node = -1};
		if (uvf_pci_new(i ? "second" : "first", &model_pci, &model_ops, &bench->models[i],
				&bench->devices[i].dev, &error))
			fail_msg("%s", error.text);
	}
	bench->config.devices = bench->devices;
	bench->config.device_count = 2;
}

static void bench_free(struct bench *bench)
{
	for (size_t i = 0; i < 2; i++)
		uvf_device_free(bench->devices[i].dev);
}

static struct uvf_run *bench_start(struct bench *bench, const char *name, const char *argument)
{
	char *argv[] = {(char *)(uintptr_t)program, (char *)(uintptr_t)name,
			(char *)(uintptr_t)argument, NULL};
	struct uvf_error error = {""};
	struct uvf_run *run = NULL;

	bench->config.argv = argv;
	if (uvf_run_start(&bench->config, &run, &error))
		fail_msg("%s", error.text);
	return run;
}

static int bench_wait(struct uvf_run *run)
{
	int status = -1;

	assert_int_equal(uvf_run_wait(run, &status), 0);
	uvf_run_free(run);
	return status;
}

/* Its wait status. */
static int run_case(const char *name)
{
	struct bench bench;
	int status;

	bench_new(&bench);
	status = bench_wait(bench_start(&bench, name, NULL));
	bench_free(&bench);
	return status;
}

/* ---- Cases of program.c ---- */

static void test_ends(void **state)
{
	int status = run_case("exit_status");

	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	status = run_case("end_by_signal");
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
}

static void test_signals(void **state)
{
	sigset_t set, before;
	int status;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	signal(SIGPIPE, SIG_IGN);
	status = run_case("signal_mask");
	signal(SIGPIPE, SIG_DFL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	assert_int_equal(status, 0);
}

static void test_cases(void **state)
{
	static const char *const names[] = {"duplicates",   "reopened",	   "threads", "slow",
					    "slow_release", "accesses",	   "stats",   "paths",
					    "numbers",	    "other_calls", "changing"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int status = run_case(names[i]);

		if (status)
			fail_msg("%s: %#x", names[i], status);
	}
}

/* ---- Starts that fail ---- */

static int start_fails(const struct uvf_run_config *config, const char *text)
{
	struct uvf_error error = {""};
	struct uvf_run *run = NULL;
	int result = uvf_run_start(config, &run, &error);

	assert_null(run);
	if (!strstr(error.text, text))
		fail_msg("\"%s\" isn't in \"%s\"", text, error.text);
	return result;
}

static void test_refused(void **state)
{
	static const struct uvf_iova_range backwards = {2, 1};
	char *nothing[] = {NULL}, *absent[] = {"/nothing/here", NULL}, *folder[] = {"/etc", NULL};
	char *name[] = {"no-program-has-this-name", NULL}, *fine[] = {"true", NULL};
	struct uvf_device *other;
	struct bench bench;
	struct uvf_run_config *config = &bench.config;

	bench_new(&bench);
	assert_int_equal(start_fails(config, "no program"), -EINVAL);
	config->argv = nothing;
	assert_int_equal(start_fails(config, "no program"), -EINVAL);
	config->argv = absent;
	assert_int_equal(start_fails(config, "/nothing/here"), -ENOENT);
	config->argv = name;
	assert_int_equal(start_fails(config, "no-program"), -ENOENT);
	config->argv = folder;
	assert_int_equal(start_fails(config, "/etc"), -EACCES);
	config->argv = fine;
	config->page_sizes = 2048;
	assert_int_equal(start_fails(config, "4 KiB"), -EINVAL);
	config->page_sizes = 0;
	config->aperture = backwards;
	assert_int_equal(start_fails(config, "aperture"), -EINVAL);
	config->aperture = (struct uvf_iova_range){0, 0};
	config->reserved = &backwards;
	config->reserved_count = 1;
	assert_int_equal(start_fails(config, "reserved"), -EINVAL);
	config->reserved = NULL;
	bench.devices[0].address = "0000:01:00.8";
	assert_int_equal(start_fails(config, "0000:01:00.8"), -EINVAL);
	bench.devices[0].address = "1:2";
	assert_int_equal(start_fails(config, "isn't like"), -EINVAL);
	bench.devices[0].address = "0000:01:20.0";
	assert_int_equal(start_fails(config, "isn't like"), -EINVAL);
	bench.devices[0].address = bench.devices[1].address = "01:00.0";
	assert_int_equal(start_fails(config, "same address"), -EINVAL);
	bench.devices[0].address = NULL;
	bench.devices[1].address = "0000:01:00.0";
	bench.devices[1].group = -2;
	assert_int_equal(start_fails(config, "group"), -EINVAL);
	bench.devices[1].group = 0;
	bench.devices[1].dev = bench.devices[0].dev;
	assert_int_equal(start_fails(config, "twice"), -EINVAL);
	assert_int_equal(uvf_device_new("plain", &model_ops, 0, NULL, &other), 0);
	bench.devices[1].dev = other;
	assert_int_equal(start_fails(config, "PCI"), -EINVAL);
	bench.devices[1].dev = bench.devices[0].dev;
	config->device_count = 1;
	signal(SIGCHLD, SIG_IGN);
	assert_int_equal(start_fails(config, "SIGCHLD"), -EINVAL);
	signal(SIGCHLD, SIG_DFL);
	uvf_device_free(other);
	uvf_device_free(bench.devices[0].dev);
}

/* ---- Ends of either side ---- */

/* The program is killed in the middle of a call, which ends later. */
static void test_killed(void **state)
{
	struct bench bench;
	struct uvf_run *run;
	int status;

	bench_new(&bench);
	run = bench_start(&bench, "blocked", NULL);
	wait_until_waiting(&bench.gate);
	assert_int_equal(uvf_run_signal(run, SIGKILL), 0);
	open_gate(&bench.gate);
	status = bench_wait(run);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	/* The next run finds the devices free. */
	assert_int_equal(bench_wait(bench_start(&bench, "stats", NULL)), 0);
	bench_free(&bench);
}

/* A byte, from whom the test has started: false at the end, or when it lasts too long. */
static bool await(int fd)
{
	struct pollfd readable = {fd, POLLIN, 0};
	char byte;

	return poll(&readable, 1, WAIT_MS) == 1 && read(fd, &byte, 1) == 1;
}

static void test_descendants(void **state)
{
	char number[16];
	struct bench bench;
	int ends[2];
	int status;

	bench_new(&bench);
	assert_int_equal(pipe(ends), 0);
	snprintf(number, sizeof(number), "%d", ends[1]);
	status = bench_wait(bench_start(&bench, "outlives", number));
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 5);
	assert_true(await(ends[0]));
	close(ends[0]);
	close(ends[1]);
	bench_free(&bench);
}

/* Nobody waits for the end: the program and all that it started are killed. */
static void test_freed(void **state)
{
	char number[16];
	struct uvf_run *run;
	struct bench bench;
	int ends[2];

	bench_new(&bench);
	assert_int_equal(pipe(ends), 0);
	snprintf(number, sizeof(number), "%d", ends[1]);
	run = bench_start(&bench, "leaves_others", number);
	close(ends[1]);
	for (int i = 0; i < 3; i++)
		assert_true(await(ends[0]));
	uvf_run_free(run);
	assert_false(await(ends[0])); /* the end: nobody has the other one any more */
	close(ends[0]);
	bench_free(&bench);
}

/* The supervisor is killed: the program's calls fail, and it ends as it likes. */
static void test_supervisor_killed(void **state)
{
	char number[16];
	int ends[2];
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct bench bench;

		close(ends[0]);
		bench_new(&bench);
		snprintf(number, sizeof(number), "%d", ends[1]);
		_exit(bench_wait(bench_start(&bench, "orphaned", number)) != 0);
	}
	close(ends[1]);
	assert_true(await(ends[0]));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_true(await(ends[0])); /* ENOSYS */
	assert_false(await(ends[0]));
	close(ends[0]);
}

/* ---- Nothing is left ---- */

static size_t count_entries(const char *path)
{
	DIR *folder = opendir(path);
	size_t count = 0;

	assert_non_null(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static void test_leaks(void **state)
{
	size_t fds, threads;

	assert_int_equal(run_case("stats"), 0);
	fds = count_entries("/proc/self/fd");
	threads = count_entries("/proc/self/task");
	for (int i = 0; i < 100; i++)
		assert_int_equal(run_case("stats"), 0);
	assert_int_equal(count_entries("/proc/self/fd"), fds);
	/* Threads that are detached may be about to end. */
	for (int i = 0; i < 1000 && count_entries("/proc/self/task") > threads; i++)
		usleep(10000);
	assert_true(count_entries("/proc/self/task") <= threads);
}

/* ---- What is told ---- */

struct lines {
	pthread_mutex_t lock;
	char *text;
	size_t size;
};

static void keep_line(void *opaque, const char *line)
{
	struct lines *lines = opaque;
	size_t length = strlen(line);

	pthread_mutex_lock(&lines->lock);
	lines->text = realloc(lines->text, lines->size + length + 2);
	if (lines->text) {
		memcpy(lines->text + lines->size, line, length);
		lines->size += length;
		lines->text[lines->size++] = '\n';
		lines->text[lines->size] = '\0';
	}
	pthread_mutex_unlock(&lines->lock);
}

static const struct uvf_run_stat *find_stat(const struct uvf_run_stat *stats, size_t count,
					    const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(stats[i].name, name) == 0)
			return &stats[i];
	fail_msg("no %s", name);
	return NULL;
}

static void test_told(void **state)
{
	static const char *const expected[] = {
		"openat(AT_FDCWD, \"/dev/vfio/vfio\", O_RDWR) = ",
		"openat(AT_FDCWD, \"/dev/vfio/1\", O_RDWR) = ",
		"<container>, VFIO_SET_IOMMU, 3) = 0",
		"<group>, VFIO_GROUP_GET_DEVICE_FD, \"0000:01:00.0\") = ",
		"<device>, [0x00fe7576], 4, CONFIG+0) = 4",
		"<device>, [0x0002], 2, CONFIG+0x4) = 2",
	};
	struct lines lines = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct uvf_run_stat stats[64];
	const struct uvf_run_stat *stat;
	struct uvf_run *run;
	struct bench bench;
	size_t count;
	int status;

	bench_new(&bench);
	bench.config.trace = keep_line;
	bench.config.trace_opaque = &lines;
	run = bench_start(&bench, "often", NULL);
	assert_int_equal(uvf_run_wait(run, &status), 0);
	assert_int_equal(status, 0);
	count = uvf_run_stats(run, stats, 64);
	stat = find_stat(stats, count, "pread64");
	assert_ptr_equal(stat, &stats[0]); /* the most frequent */
	assert_int_equal(stat->count, 2000);
	assert_int_equal(stat->errors, 0);
	assert_true(stat->p50_ns <= stat->p99_ns && stat->p99_ns <= stat->max_ns);
	assert_true(stat->max_ns <= stat->total_ns && stat->p50_ns > 0);
	assert_int_equal(find_stat(stats, count, "VFIO_SET_IOMMU")->count, 1);
	assert_int_equal(uvf_run_stats(run, NULL, 0), count);
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		if (!strstr(lines.text, expected[i]))
			fail_msg("\"%s\" isn't in\n%.2000s", expected[i], lines.text);
	uvf_run_free(run);
	bench_free(&bench);
	free(lines.text);
}

/* Fewer descriptors: the reserved ones are lower. */
static void test_few_descriptors(void **state)
{
	struct rlimit before, few;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = before;
	few.rlim_cur = 300;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(run_case("duplicates"), 0);
	few.rlim_cur = 100;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(run_case("paths"), 0);
	setrlimit(RLIMIT_NOFILE, &before);
}

static void become_user(void)
{
	if (geteuid() != 0)
		return;
	if (setgroups(0, NULL) || setgid(ORDINARY_USER) || setuid(ORDINARY_USER)) {
		perror("test_run: becoming an ordinary user");
		exit(1);
	}
	/* Else /proc/self is still the superuser's. */
	prctl(PR_SET_DUMPABLE, 1);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_descendants),
		cmocka_unit_test(test_freed),
		cmocka_unit_test(test_supervisor_killed),
		cmocka_unit_test(test_leaks),
		cmocka_unit_test(test_told),
		cmocka_unit_test(test_few_descriptors),
	};

	if (argc < 2)
		return 2;
	program = argv[1];
	setenv("PATH", "/usr/bin:/bin", 1); /* without folders that a user can't look into */
	if (argc > 2 && strcmp(argv[2], "user") == 0)
		become_user();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
