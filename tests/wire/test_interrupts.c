/* SPDX-License-Identifier: BSD-3-Clause */
/* SET_IRQS over the wire: bools, masks, resampling, errors; what the eventfds then get. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "harness.h"

#define NONE	VFIO_IRQ_SET_DATA_NONE
#define BOOL	VFIO_IRQ_SET_DATA_BOOL
#define EVENTFD VFIO_IRQ_SET_DATA_EVENTFD
#define TRIGGER VFIO_IRQ_SET_ACTION_TRIGGER
#define MASK	VFIO_IRQ_SET_ACTION_MASK
#define UNMASK	VFIO_IRQ_SET_ACTION_UNMASK

static int set_irqs(struct harness *h, uint32_t flags, uint32_t index, uint32_t start,
		    uint32_t count, const uint8_t *bools, const int *fds)
{
	struct {
		struct uvf_wire_irq_set set;
		uint8_t bools[VECTORS];
	} wire = {{sizeof(wire.set), flags, index, start, count}, {0}};
	struct reply reply;

	if (bools)
		memcpy(wire.bools, bools, count);
	return request(h, VFIO_USER_DEVICE_SET_IRQS, &wire, sizeof(wire.set) + (bools ? count : 0),
		       fds, fds ? count : 0, &reply);
}

/* How often @fd was signalled since it was last asked. */
static unsigned signals(int fd)
{
	uint64_t count = 0;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? (unsigned)count : 0;
}

static void make_eventfds(int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		fds[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_true(fds[i] >= 0);
	}
}

/* ---- MSI-X ---- */

static void bools_choose_vectors(void **state)
{
	static const uint8_t chosen[8] = {1, 0, 0, 1, 255, 0, 1, 0};
	struct harness *h = *state;
	int fds[8];

	make_eventfds(fds, 8);
	assert_int_equal(set_irqs(h, EVENTFD | TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 4, 8, NULL, fds),
			 0);
	assert_int_equal(set_irqs(h, BOOL | TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 4, 8, chosen, NULL),
			 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(signals(fds[i]), !!chosen[i]);
	/* A part of them. */
	assert_int_equal(
		set_irqs(h, BOOL | TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 7, 2, chosen + 3, NULL), 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(signals(fds[i]), i == 3 || i == 4);
	/* All of them. */
	assert_int_equal(set_irqs(h, NONE | TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 4, 8, NULL, NULL), 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(signals(fds[i]), 1);
	/* Those that have no eventfd, and those that aren't there. */
	assert_int_equal(set_irqs(h, NONE | TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 4, NULL, NULL), 0);
	assert_int_equal(
		set_irqs(h, BOOL | TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, VECTORS - 1, 2, chosen, NULL),
		-EINVAL);
	for (int i = 0; i < 8; i++)
		assert_int_equal(signals(fds[i]), 0);
	uvf_fdpass_close(fds, 8);
}

/* Those that are replaced or taken away get nothing more. */
static void eventfds_are_replaced(void **state)
{
	struct harness *h = *state;
	int fds[8];

	make_eventfds(fds, 8);
	assert_int_equal(set_irqs(h, EVENTFD | TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 4, NULL, fds),
			 0);
	assert_int_equal(
		set_irqs(h, EVENTFD | TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 1, 2, NULL, fds + 5), 0);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(region_write32(h, 0, REG_TRIGGER, i), 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(signals(fds[i]), i == 0 || i == 3 || i == 5 || i == 6);
	assert_int_equal(set_irqs(h, EVENTFD | TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 2, NULL, NULL),
			 0);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(region_write32(h, 0, REG_TRIGGER, i), 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(signals(fds[i]), i == 3 || i == 6);
	assert_int_equal(set_irqs(h, NONE | TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 0, NULL, NULL), 0);
	assert_int_equal(region_write32(h, 0, REG_TRIGGER, 3), 0);
	assert_int_equal(signals(fds[3]), 0);
	uvf_fdpass_close(fds, 8);
}

/* An eventfd that is full stops nobody. */
static void a_full_eventfd(void **state)
{
	struct harness *h = *state;
	uint64_t full = UINT64_MAX - 1;
	int fd;

	make_eventfds(&fd, 1);
	assert_int_equal(set_irqs(h, EVENTFD | TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, NULL, &fd),
			 0);
	assert_int_equal(write(fd, &full, sizeof(full)), sizeof(full));
	for (int i = 0; i < 10; i++)
		assert_int_equal(region_write32(h, 0, REG_TRIGGER, 0), 0);
	close(fd);
}

/* What goes with a session: its eventfds. */
static void closed_with_the_session(void **state)
{
	struct harness *h = *state;
	struct reply reply;
	int fd;

	make_eventfds(&fd, 1);
	assert_int_equal(set_irqs(h, EVENTFD | TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, NULL, &fd),
			 0);
	close(h->client);
	h->client = harness_connect(h);
	assert_int_equal(negotiate_on(h, h->client, NULL, &reply), 0);
	assert_int_equal(region_write32(h, 0, REG_TRIGGER, 0), 0);
	assert_int_equal(signals(fd), 0);
	close(fd);
}

/* ---- INTx ---- */

static int intx(struct harness *h)
{
	int fd;

	make_eventfds(&fd, 1);
	assert_int_equal(set_irqs(h, EVENTFD | TRIGGER, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, NULL, &fd),
			 0);
	return fd;
}

static void level(struct harness *h, uint32_t asserted)
{
	assert_int_equal(region_write32(h, 0, REG_INTX_LEVEL, asserted), 0);
}

static int act(struct harness *h, uint32_t action)
{
	return set_irqs(h, NONE | action, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, NULL, NULL);
}

/* A signal masks; what is still asserted signals again on unmasking. */
static void automask(void **state)
{
	struct harness *h = *state;
	int fd = intx(h);

	level(h, 1);
	assert_int_equal(signals(fd), 1);
	level(h, 0);
	level(h, 1);
	assert_int_equal(signals(fd), 0);
	assert_int_equal(act(h, UNMASK), 0);
	assert_int_equal(signals(fd), 1);
	level(h, 0);
	assert_int_equal(act(h, UNMASK), 0);
	assert_int_equal(signals(fd), 0);
	/* Unmasked twice is unmasked. */
	assert_int_equal(act(h, UNMASK), 0);
	level(h, 1);
	assert_int_equal(signals(fd), 1);
	close(fd);
}

static void mask_by_hand(void **state)
{
	static const uint8_t no = 0, yes = 1;
	struct harness *h = *state;
	int fd = intx(h);

	assert_int_equal(act(h, MASK), 0);
	level(h, 1);
	assert_int_equal(signals(fd), 0);
	/* A bool that is 0 changes nothing. */
	assert_int_equal(set_irqs(h, BOOL | UNMASK, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &no, NULL), 0);
	assert_int_equal(signals(fd), 0);
	assert_int_equal(set_irqs(h, BOOL | UNMASK, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &yes, NULL), 0);
	assert_int_equal(signals(fd), 1);
	level(h, 0);
	assert_int_equal(act(h, UNMASK), 0);
	assert_int_equal(set_irqs(h, BOOL | MASK, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, &no, NULL), 0);
	level(h, 1);
	assert_int_equal(signals(fd), 1);
	close(fd);
}

/* The client acknowledges by an eventfd: from another thread, at any moment. */
static void resample(void **state)
{
	struct harness *h = *state;
	int fd = intx(h), unmask;
	uint64_t one = 1;

	make_eventfds(&unmask, 1);
	assert_int_equal(
		set_irqs(h, EVENTFD | UNMASK, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, NULL, &unmask), 0);
	level(h, 1);
	assert_int_equal(signals(fd), 1);
	for (int i = 0; i < 20; i++) {
		struct pollfd ready = {fd, POLLIN, 0};

		/* Still asserted: it comes again. */
		assert_int_equal(write(unmask, &one, sizeof(one)), sizeof(one));
		assert_int_equal(poll(&ready, 1, LONG_TIME_MS), 1);
		assert_int_equal(signals(fd), 1);
	}
	/* Taken away: nothing comes of it. */
	assert_int_equal(set_irqs(h, EVENTFD | UNMASK, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, NULL, NULL),
			 0);
	assert_int_equal(write(unmask, &one, sizeof(one)), sizeof(one));
	assert_int_equal(act(h, MASK), 0);
	assert_int_equal(signals(fd), 0);
	assert_int_equal(signals(unmask), 1);
	close(unmask);
	close(fd);
}

/* The eventfd that unmasks is the one that signals: it goes round until the line falls. */
static void resample_by_the_trigger(void **state)
{
	struct harness *h = *state;
	int fd = intx(h);

	assert_int_equal(set_irqs(h, EVENTFD | UNMASK, VFIO_PCI_INTX_IRQ_INDEX, 0, 1, NULL, &fd),
			 0);
	level(h, 1);
	level(h, 0);
	assert_int_equal(simple(h, VFIO_USER_DEVICE_RESET, NULL, 0), 0);
	close(fd);
}

/* ---- Others ---- */

static void error_interrupt(void **state)
{
	struct harness *h = *state;
	int fds[2];

	make_eventfds(fds, 2);
	assert_int_equal(set_irqs(h, EVENTFD | TRIGGER, VFIO_PCI_ERR_IRQ_INDEX, 0, 2, NULL, fds),
			 -EINVAL);
	assert_int_equal(set_irqs(h, EVENTFD | TRIGGER, VFIO_PCI_ERR_IRQ_INDEX, 0, 1, NULL, fds),
			 0);
	uvf_irq_trigger(h->device->dev, VFIO_PCI_ERR_IRQ_INDEX, 0);
	assert_int_equal(signals(fds[0]), 1);
	assert_int_equal(set_irqs(h, NONE | TRIGGER, VFIO_PCI_ERR_IRQ_INDEX, 0, 1, NULL, NULL), 0);
	assert_int_equal(signals(fds[0]), 1);
	assert_int_equal(set_irqs(h, NONE | MASK, VFIO_PCI_ERR_IRQ_INDEX, 0, 1, NULL, NULL),
			 -ENOTTY);
	/* It lives beside the others. */
	assert_int_equal(
		set_irqs(h, EVENTFD | TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, NULL, fds + 1), 0);
	uvf_irq_trigger(h->device->dev, VFIO_PCI_ERR_IRQ_INDEX, 0);
	assert_int_equal(signals(fds[0]), 1);
	assert_int_equal(set_irqs(h, EVENTFD | TRIGGER, VFIO_PCI_ERR_IRQ_INDEX, 0, 1, NULL, NULL),
			 0);
	uvf_irq_trigger(h->device->dev, VFIO_PCI_ERR_IRQ_INDEX, 0);
	assert_int_equal(signals(fds[0]), 0);
	uvf_fdpass_close(fds, 2);
}

/* Of INTx, MSI and MSI-X one is enabled. */
static void one_kind_at_a_time(void **state)
{
	struct harness *h = *state;
	int fds[2];

	make_eventfds(fds, 2);
	assert_int_equal(set_irqs(h, EVENTFD | TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 1, NULL, fds),
			 0);
	assert_int_equal(
		set_irqs(h, EVENTFD | TRIGGER, VFIO_PCI_MSI_IRQ_INDEX, 0, 1, NULL, fds + 1),
		-EINVAL);
	assert_int_equal(set_irqs(h, NONE | TRIGGER, VFIO_PCI_MSIX_IRQ_INDEX, 0, 0, NULL, NULL), 0);
	assert_int_equal(
		set_irqs(h, EVENTFD | TRIGGER, VFIO_PCI_MSI_IRQ_INDEX, 0, 1, NULL, fds + 1), 0);
	uvf_fdpass_close(fds, 2);
}

#define SERVED(test)                                               \
	{                                                          \
#test, test, harness_setup, harness_teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SERVED(bools_choose_vectors),
		SERVED(eventfds_are_replaced),
		SERVED(a_full_eventfd),
		SERVED(closed_with_the_session),
		SERVED(automask),
		SERVED(mask_by_hand),
		SERVED(resample),
		SERVED(resample_by_the_trigger),
		SERVED(error_interrupt),
		SERVED(one_kind_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
