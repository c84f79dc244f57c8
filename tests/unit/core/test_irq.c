/* SPDX-License-Identifier: BSD-3-Clause */
/* Interrupts: every form of SET_IRQS, its errors, masking, levels, resample, triggers from threads.
 */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uvfio/client.h>

#include <cmocka.h>

#define NONE	VFIO_IRQ_SET_DATA_NONE
#define BOOL	VFIO_IRQ_SET_DATA_BOOL
#define EVENTFD VFIO_IRQ_SET_DATA_EVENTFD
#define TRIGGER VFIO_IRQ_SET_ACTION_TRIGGER
#define MASK	VFIO_IRQ_SET_ACTION_MASK
#define UNMASK	VFIO_IRQ_SET_ACTION_UNMASK

static const struct uvf_device_ops ops = {0};
static struct uvf_device *dev;
static int events[4];

static int setup(void **state)
{
	static const struct uvf_irq irqs[] = {
		{VFIO_PCI_INTX_IRQ_INDEX, 1,
		 VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED},
		{VFIO_PCI_MSI_IRQ_INDEX, 2, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE},
		{VFIO_PCI_MSIX_IRQ_INDEX, 4, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE},
		{VFIO_PCI_ERR_IRQ_INDEX, 1, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE},
	};

	(void)state;
	assert_int_equal(uvf_device_new("test", &ops, VFIO_DEVICE_FLAGS_PCI, NULL, &dev), 0);
	for (size_t i = 0; i < sizeof(irqs) / sizeof(irqs[0]); i++)
		assert_int_equal(uvf_device_add_irq(dev, &irqs[i]), 0);
	assert_int_equal(uvf_device_open(dev), 0);
	for (int i = 0; i < 4; i++)
		events[i] = eventfd(0, EFD_NONBLOCK);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	uvf_device_free(dev);
	for (int i = 0; i < 4; i++)
		close(events[i]);
	return 0;
}

static int set(uint32_t index, uint32_t flags, uint32_t start, uint32_t count, const void *data)
{
	struct uvf_irq_set irq_set = {
		.flags = flags, .index = index, .start = start, .count = count};

	if (flags & BOOL)
		irq_set.bools = data;
	else if (flags & EVENTFD)
		irq_set.fds = data;
	return uvf_irq_set(dev, &irq_set);
}

static uint64_t count_of(int i)
{
	uint64_t value = 0;

	return read(events[i], &value, sizeof(value)) == sizeof(value) ? value : 0;
}

static void msix_triggers(void **state)
{
	(void)state;
	assert_false(uvf_irq_enabled(dev, 2));
	uvf_irq_trigger(dev, 2, 0); /* not enabled: nothing */
	assert_int_equal(set(2, EVENTFD | TRIGGER, 0, 4, events), 0);
	assert_true(uvf_irq_enabled(dev, 2));
	uvf_irq_trigger(dev, 2, 1);
	uvf_irq_trigger(dev, 2, 1);
	uvf_irq_trigger(dev, 2, 4);
	uvf_irq_trigger(dev, 77, 0);
	assert_int_equal(count_of(0), 0);
	assert_int_equal(count_of(1), 2);
}

static void sub_range_leaves_others(void **state)
{
	int replace[2] = {-1, events[0]};

	(void)state;
	assert_int_equal(set(2, EVENTFD | TRIGGER, 0, 4, events), 0);
	assert_int_equal(set(2, EVENTFD | TRIGGER, 1, 2, replace), 0);
	for (uint32_t i = 0; i < 4; i++)
		uvf_irq_trigger(dev, 2, i);
	assert_int_equal(count_of(0), 2); /* vectors 0 and 2 */
	assert_int_equal(count_of(1), 0);
	assert_int_equal(count_of(2), 0);
	assert_int_equal(count_of(3), 1);
}

static void disable_closes_only_its_index(void **state)
{
	(void)state;
	assert_int_equal(set(2, EVENTFD | TRIGGER, 0, 2, events), 0);
	assert_int_equal(set(3, EVENTFD | TRIGGER, 0, 1, &events[2]), 0);
	assert_int_equal(set(0, NONE | TRIGGER, 0, 0, NULL), 0);
	assert_int_equal(set(1, NONE | TRIGGER, 0, 0, NULL), 0);
	uvf_irq_trigger(dev, 2, 0);
	uvf_irq_trigger(dev, 3, 0);
	assert_int_equal(count_of(0), 1);
	assert_int_equal(count_of(2), 1);
	assert_int_equal(set(2, NONE | TRIGGER, 0, 0, NULL), 0);
	assert_false(uvf_irq_enabled(dev, 2));
	uvf_irq_trigger(dev, 2, 0);
	uvf_irq_trigger(dev, 3, 0);
	assert_int_equal(count_of(0), 0);
	assert_int_equal(count_of(2), 1);
}

static void one_of_intx_msi_msix(void **state)
{
	(void)state;
	assert_int_equal(set(2, EVENTFD | TRIGGER, 0, 1, events), 0);
	assert_int_equal(set(1, EVENTFD | TRIGGER, 0, 1, events), -EINVAL);
	assert_int_equal(set(0, EVENTFD | TRIGGER, 0, 1, events), -EINVAL);
	assert_int_equal(set(2, NONE | TRIGGER, 0, 0, NULL), 0);
	assert_int_equal(set(0, EVENTFD | TRIGGER, 0, 1, events), 0);
}

static void loopback(void **state)
{
	const uint8_t bools[4] = {0, 1, 0, 1};

	(void)state;
	assert_int_equal(set(2, NONE | TRIGGER, 0, 1, NULL), -EINVAL);
	assert_int_equal(set(2, BOOL | TRIGGER, 0, 1, bools), -EINVAL);
	assert_int_equal(set(2, EVENTFD | TRIGGER, 0, 4, events), 0);
	assert_int_equal(set(2, BOOL | TRIGGER, 0, 4, bools), 0);
	assert_int_equal(set(2, NONE | TRIGGER, 3, 1, NULL), 0);
	assert_int_equal(count_of(0), 0);
	assert_int_equal(count_of(1), 1);
	assert_int_equal(count_of(3), 2);
}

static void bad_calls(void **state)
{
	static const struct {
		uint32_t index, flags, start, count;
		int result;
	} bad[] = {
		{9, NONE | TRIGGER, 0, 0, -EINVAL},
		{UINT32_MAX, NONE | TRIGGER, 0, 0, -EINVAL},
		{2, TRIGGER, 0, 1, -EINVAL},
		{2, NONE, 0, 0, -EINVAL},
		{2, NONE | BOOL | TRIGGER, 0, 1, -EINVAL},
		{2, NONE | TRIGGER | MASK, 0, 1, -EINVAL},
		{2, NONE | TRIGGER | 1U << 6, 0, 1, -EINVAL},
		{2, NONE | TRIGGER, 4, 0, -EINVAL},
		{2, EVENTFD | TRIGGER, 4, 1, -EINVAL},
		{2, EVENTFD | TRIGGER, 1, 4, -EINVAL},
		{2, EVENTFD | TRIGGER, UINT32_MAX, 2, -EINVAL},
		{2, EVENTFD | TRIGGER, 1, UINT32_MAX, -EINVAL},
		{2, EVENTFD | TRIGGER, 0, 0, -EINVAL},
		{2, NONE | MASK, 0, 1, -ENOTTY},
		{2, NONE | UNMASK, 0, 1, -ENOTTY},
		{0, NONE | MASK, 0, 1, -EINVAL},
		{0, NONE | UNMASK, 0, 1, -EINVAL},
	};
	int fds[2] = {events[0], -1};
	int pipes[2];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(
			set(bad[i].index, bad[i].flags, bad[i].start, bad[i].count, events),
			bad[i].result);
	assert_int_equal(pipe(pipes), 0);
	fds[1] = pipes[1];
	assert_int_equal(set(2, EVENTFD | TRIGGER, 0, 2, fds), -EINVAL);
	fds[1] = 100000;
	assert_int_equal(set(2, EVENTFD | TRIGGER, 0, 2, fds), -EBADF);
	/* All or none: the good one of a refused call is not there. */
	assert_false(uvf_irq_enabled(dev, 2));
	uvf_irq_trigger(dev, 2, 0);
	assert_int_equal(count_of(0), 0);
	close(pipes[0]);
	close(pipes[1]);
}

static void level_with_automask(void **state)
{
	(void)state;
	assert_int_equal(set(0, EVENTFD | TRIGGER, 0, 1, events), 0);
	uvf_irq_set_level(dev, 0, 0, true);
	uvf_irq_set_level(dev, 0, 0, true);
	assert_int_equal(count_of(0), 1);
	/* Still asserted when the driver unmasks: again. */
	assert_int_equal(set(0, NONE | UNMASK, 0, 1, NULL), 0);
	assert_int_equal(count_of(0), 1);
	uvf_irq_set_level(dev, 0, 0, false);
	assert_int_equal(set(0, NONE | UNMASK, 0, 1, NULL), 0);
	assert_int_equal(count_of(0), 0);
	/* A pulse while masked is no level any more when unmasked. */
	assert_int_equal(set(0, NONE | MASK, 0, 1, NULL), 0);
	uvf_irq_set_level(dev, 0, 0, true);
	uvf_irq_set_level(dev, 0, 0, false);
	assert_int_equal(set(0, NONE | UNMASK, 0, 1, NULL), 0);
	assert_int_equal(count_of(0), 0);
	uvf_irq_set_level(dev, 0, 0, true);
	assert_int_equal(count_of(0), 1);
}

static void level_before_enable(void **state)
{
	(void)state;
	uvf_irq_set_level(dev, 0, 0, true);
	assert_int_equal(set(0, EVENTFD | TRIGGER, 0, 1, events), 0);
	assert_int_equal(count_of(0), 1);
}

static uint64_t wait_for(int i)
{
	struct pollfd fd = {.fd = events[i], .events = POLLIN};

	assert_int_equal(poll(&fd, 1, 10000), 1);
	return count_of(i);
}

static void resample(void **state)
{
	uint64_t one = 1;
	int none = -1;

	(void)state;
	assert_int_equal(set(0, EVENTFD | UNMASK, 0, 1, &events[1]), -EINVAL);
	assert_int_equal(set(0, EVENTFD | TRIGGER, 0, 1, &events[0]), 0);
	assert_int_equal(set(0, EVENTFD | UNMASK, 0, 1, &events[1]), 0);
	uvf_irq_set_level(dev, 0, 0, true);
	assert_int_equal(wait_for(0), 1);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(write(events[1], &one, sizeof(one)), sizeof(one));
		assert_int_equal(wait_for(0), 1);
	}
	/* Replaced: the new one works; taken away: unmasking by hand still does. */
	assert_int_equal(set(0, EVENTFD | UNMASK, 0, 1, &events[2]), 0);
	assert_int_equal(write(events[2], &one, sizeof(one)), sizeof(one));
	assert_int_equal(wait_for(0), 1);
	assert_int_equal(set(0, EVENTFD | UNMASK, 0, 1, &none), 0);
	assert_int_equal(set(0, NONE | UNMASK, 0, 1, NULL), 0);
	assert_int_equal(wait_for(0), 1);
	assert_int_equal(set(0, EVENTFD | MASK, 0, 1, &events[1]), -ENOTTY);
}

/* Whether the other threads of this process are all asleep. */
static bool others_sleep(void)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *task;
	bool sleep = true;

	assert_non_null(tasks);
	while ((task = readdir(tasks))) {
		char path[300], line[300] = "", *end;
		FILE *stat;

		if (task->d_name[0] == '.' || atoi(task->d_name) == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/self/task/%s/stat", task->d_name);
		stat = fopen(path, "r");
		end = stat && fgets(line, sizeof(line), stat) ? strrchr(line, ')') : NULL;
		sleep = sleep && (!end || end[2] == 'S');
		if (stat)
			fclose(stat);
	}
	closedir(tasks);
	return sleep;
}

/* What is always ready, and can't be read, keeps nobody busy; what comes after it works. */
static void resample_by_something_else(void **state)
{
	struct epoll_event event = {.events = EPOLLIN};
	int epoll = epoll_create1(0), looks = 0;
	uint64_t one = 1;

	(void)state;
	assert_int_equal(write(events[3], &one, sizeof(one)), sizeof(one));
	assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, events[3], &event), 0);
	assert_int_equal(set(0, EVENTFD | TRIGGER, 0, 1, &events[0]), 0);
	assert_int_equal(set(0, EVENTFD | UNMASK, 0, 1, &epoll), 0);
	for (int i = 0; i < 10000 && looks < 100; i++) {
		looks = others_sleep() ? looks + 1 : 0;
		usleep(1000);
	}
	assert_int_equal(looks, 100);
	assert_int_equal(set(0, EVENTFD | UNMASK, 0, 1, &events[1]), 0);
	uvf_irq_set_level(dev, 0, 0, true);
	assert_int_equal(wait_for(0), 1);
	assert_int_equal(write(events[1], &one, sizeof(one)), sizeof(one));
	assert_int_equal(wait_for(0), 1);
	close(epoll);
}

static void full_eventfd_does_not_block(void **state)
{
	uint64_t full = UINT64_MAX - 1;
	int blocking = eventfd(0, 0);

	(void)state;
	assert_int_equal(set(2, EVENTFD | TRIGGER, 0, 1, &blocking), 0);
	assert_int_equal(write(blocking, &full, sizeof(full)), sizeof(full));
	uvf_irq_trigger(dev, 2, 0);
	close(blocking);
}

static void *trigger_often(void *opaque)
{
	uint32_t vector = *(uint32_t *)opaque;

	for (int i = 0; i < 20000; i++)
		uvf_irq_trigger(dev, 2, vector);
	return NULL;
}

static void triggers_from_threads(void **state)
{
	uint32_t vectors[2] = {0, 1};
	uint64_t total[2] = {0, 0};
	pthread_t threads[2];
	int none = -1;

	(void)state;
	assert_int_equal(set(2, EVENTFD | TRIGGER, 0, 4, events), 0);
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, trigger_often, &vectors[i]);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(set(2, EVENTFD | TRIGGER, 1, 1, &none), 0);
		assert_int_equal(set(2, EVENTFD | TRIGGER, 1, 1, &events[1]), 0);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 2; i++)
		total[i] = count_of(i);
	assert_int_equal(total[0], 20000); /* the one that nobody touched lost none */
	assert_true(total[1] <= 20000);
}

static void close_takes_all_away(void **state)
{
	(void)state;
	assert_int_equal(set(2, EVENTFD | TRIGGER, 0, 4, events), 0);
	uvf_device_close(dev);
	assert_false(uvf_irq_enabled(dev, 2));
	uvf_irq_trigger(dev, 2, 0);
	assert_int_equal(count_of(0), 0);
	assert_int_equal(set(2, EVENTFD | TRIGGER, 0, 4, events), -ENODEV);
	assert_int_equal(uvf_device_open(dev), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(msix_triggers, setup, teardown),
		cmocka_unit_test_setup_teardown(sub_range_leaves_others, setup, teardown),
		cmocka_unit_test_setup_teardown(disable_closes_only_its_index, setup, teardown),
		cmocka_unit_test_setup_teardown(one_of_intx_msi_msix, setup, teardown),
		cmocka_unit_test_setup_teardown(loopback, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_calls, setup, teardown),
		cmocka_unit_test_setup_teardown(level_with_automask, setup, teardown),
		cmocka_unit_test_setup_teardown(level_before_enable, setup, teardown),
		cmocka_unit_test_setup_teardown(resample, setup, teardown),
		cmocka_unit_test_setup_teardown(resample_by_something_else, setup, teardown),
		cmocka_unit_test_setup_teardown(full_eventfd_does_not_block, setup, teardown),
		cmocka_unit_test_setup_teardown(triggers_from_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(close_takes_all_away, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
