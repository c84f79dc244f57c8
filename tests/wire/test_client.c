/* SPDX-License-Identifier: BSD-3-Clause */
/* The client's device against the real server on its threads: the same calls as on a device here.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "harness.h"

struct remote {
	struct harness *h;
	struct uvf_device *dev;
	size_t threads_before;
	unsigned inherited_before;
};

static unsigned count_inherited(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += !(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	return count;
}

static void check(int result, int expected)
{
	assert_int_equal(result, expected);
}

/* A thread that was joined can be seen for a moment still. */
static void no_more_threads_than(size_t threads)
{
	for (int i = 0; count_threads() > threads && i < 5000; i++)
		usleep(1000);
	assert_true(count_threads() <= threads);
}

static void *nothing(void *opaque)
{
	return opaque;
}

static int setup_with(void **state, bool no_twin)
{
	struct remote *r = calloc(1, sizeof(*r));
	struct uvf_client_config config = {.no_twin_socket = no_twin, .timeout_ms = LONG_TIME_MS};
	struct uvf_error error = {""};

	assert_non_null(r);
	r->threads_before = count_threads();
	r->h = harness_new(NULL);
	check(uvf_server_start(r->h->server), 0);
	config.path = r->h->path;
	r->inherited_before = count_inherited();
	if (uvf_client_connect(&config, &r->dev, &error))
		fail_msg("%s", error.text);
	check(uvf_device_open(r->dev), 0);
	*state = r;
	return 0;
}

static int setup(void **state)
{
	return setup_with(state, false);
}

static int setup_shared(void **state)
{
	return setup_with(state, true);
}

static int teardown(void **state)
{
	struct remote *r = *state;
	size_t threads = r->threads_before;

	uvf_device_close(r->dev);
	uvf_device_free(r->dev);
	harness_free(r->h);
	free(r);
	no_more_threads_than(threads);
	return 0;
}

static void write32(struct remote *r, uint64_t offset, uint32_t value)
{
	check((int)uvf_region_write(r->dev, 0, offset, &value, 4), 4);
}

static uint32_t read32(struct remote *r, uint64_t offset)
{
	uint32_t value;

	check((int)uvf_region_read(r->dev, 0, offset, &value, 4), 4);
	return value;
}

static void info_is_the_devices(void **state)
{
	struct remote *r = *state;
	struct uvf_device_info info;
	struct uvf_region_info region;
	struct uvf_irq_info irq;

	uvf_device_get_info(r->dev, &info);
	check((int)info.flags, VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET);
	check((int)info.regions, 10);
	check((int)info.irqs, 4);
	check(uvf_region_get_info(r->dev, 0, &region), 0);
	assert_int_equal(region.size, BAR0_SIZE);
	check((int)region.area_count, 2);
	assert_int_equal(region.areas[1].offset, AREA_START + PAGE);
	check((int)region.io_fd_count, 1);
	assert_int_equal(region.io_fds[0].offset, 0x14);
	check(uvf_region_get_info(r->dev, VFIO_PCI_NUM_REGIONS, &region), 0);
	check((int)region.type, 0x1234);
	check((int)region.subtype, 7);
	check(uvf_region_get_info(r->dev, 3, &region), 0);
	check((int)region.flags, VFIO_REGION_INFO_FLAG_READ);
	check(uvf_irq_get_info(r->dev, VFIO_PCI_MSIX_IRQ_INDEX, &irq), 0);
	check((int)irq.count, VECTORS);
}

static void regions_are_read_and_written(void **state)
{
	struct remote *r = *state;
	uint32_t value = 0;

	write32(r, REG_SCRATCH, 0xcafe);
	check((int)read32(r, REG_SCRATCH), 0xcafe);
	check((int)uvf_region_read(r->dev, 0, REG_FAIL, &value, 4), -EIO);
	check((int)uvf_region_write(r->dev, 0, REG_FAIL, &value, 4), -EIO);
	check((int)uvf_region_read(r->dev, 0, BAR0_SIZE, &value, 4), -EINVAL);
	/* An area is shared, not sent. */
	value = 0x55aa;
	check((int)uvf_region_write(r->dev, 0, AREA_START + 8, &value, 4), 4);
	assert_memory_equal(r->h->device->area + 8, &value, 4);
}

static void an_area_is_mapped(void **state)
{
	struct remote *r = *state;
	void *address;

	check(uvf_region_map(r->dev, 0, AREA_START, PAGE, &address), 0);
	memcpy(address, "abc", 3);
	assert_memory_equal(r->h->device->area, "abc", 3);
	uvf_region_unmap(r->dev, 0, AREA_START, PAGE, address);
	check(uvf_region_map(r->dev, 0, 0, PAGE, &address), -EINVAL);
}

static void large_accesses_go_in_pieces(void **state)
{
	struct remote *r = *state;
	uint8_t *bytes = malloc(BUFFER_SIZE), *back = malloc(BUFFER_SIZE);

	for (size_t i = 0; i < BUFFER_SIZE; i++)
		bytes[i] = (uint8_t)(i * 7 + (i >> 8));
	assert_int_equal(uvf_region_write(r->dev, 2, 0, bytes, BUFFER_SIZE), BUFFER_SIZE);
	assert_memory_equal(r->h->device->buffer, bytes, BUFFER_SIZE);
	assert_int_equal(uvf_region_read(r->dev, 2, 0, back, BUFFER_SIZE), BUFFER_SIZE);
	assert_memory_equal(back, bytes, BUFFER_SIZE);
	free(bytes);
	free(back);
}

static void interrupts_arrive(void **state)
{
	struct remote *r = *state;
	int fds[VECTORS];
	uint64_t count;
	struct uvf_irq_set set = {
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_MSIX_IRQ_INDEX,
		.count = VECTORS,
		.fds = fds,
	};

	/* More than go with one message, and gaps among them. */
	for (unsigned i = 0; i < VECTORS; i++)
		fds[i] = i % 9 == 4 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	check(uvf_irq_set(r->dev, &set), 0);
	for (unsigned i = 0; i < VECTORS; i++)
		write32(r, REG_TRIGGER, i);
	for (unsigned i = 0; i < VECTORS; i++)
		if (fds[i] >= 0)
			check((int)read(fds[i], &count, 8), 8);
	set.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
	set.count = 0;
	check(uvf_irq_set(r->dev, &set), 0);
	write32(r, REG_TRIGGER, 0);
	check((int)read(fds[0], &count, 8), -1);
	for (unsigned i = 0; i < VECTORS; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static int dma(struct remote *r, uint64_t address, uint32_t size, bool write)
{
	check((int)uvf_region_write(r->dev, 0, REG_DMA_ADDRESS, &address, 8), 8);
	write32(r, REG_DMA_SIZE, size);
	write32(r, REG_DMA_WRITE, write);
	write32(r, REG_DOORBELL, 1);
	return (int)read32(r, REG_DMA_RESULT);
}

/* One mapping with a file, one without. */
static void dma_reaches_memory(void **state)
{
	struct remote *r = *state;
	struct uvf_address_space *space;
	struct uvf_memory *local;
	uint8_t *bytes = aligned_alloc(PAGE, 64 * PAGE), *shared;
	int fd = memory_file(4 * PAGE);

	shared = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memset(bytes, 0, 64 * PAGE);
	check(uvf_address_space_new(NULL, &space), 0);
	check(uvf_memory_new_local(bytes, 64 * PAGE, &local), 0);
	check(uvf_map_fd(space, 0x100000, 4 * PAGE, UVF_PROT_RW, fd, 0), 0);
	check(uvf_device_attach(r->dev, UVF_PASID_NONE, space), 0);
	/* Before and after attaching. */
	check(uvf_map(space, 0x200000, 60 * PAGE, UVF_PROT_RW, local, 0), 0);
	check(uvf_map(space, 0x300000, PAGE, UVF_PROT_READ, local, 60 * PAGE), 0);

	check(dma(r, 0x100000, 16, false), -EPERM);
	write32(r, REG_BUS_MASTER, 1);
	memcpy(shared, "from a file", 12);
	check(dma(r, 0x100000, 4 * PAGE, false), 0);
	assert_memory_equal(r->h->device->buffer, "from a file", 12);
	memcpy(r->h->device->buffer, "to a file", 10);
	check(dma(r, 0x100000 + PAGE, 10, true), 0);
	assert_memory_equal(shared + PAGE, "to a file", 10);

	/* More than goes in one message. */
	for (size_t i = 0; i < 60 * PAGE; i++)
		r->h->device->buffer[i] = (uint8_t)(i * 3 + (i >> 12));
	check(dma(r, 0x200000, 60 * PAGE, true), 0);
	assert_memory_equal(bytes, r->h->device->buffer, 60 * PAGE);
	memcpy(bytes + 5, "by messages", 11);
	check(dma(r, 0x200005, 11, false), 0);
	assert_memory_equal(r->h->device->buffer, "by messages", 11);

	check(dma(r, 0x300000, 16, true), -EACCES);
	check(dma(r, 0x400000, 16, false), -EFAULT);
	check(uvf_unmap(space, 0x200000, 60 * PAGE, NULL), 0);
	check(dma(r, 0x200000, 16, false), -EFAULT);
	check(uvf_device_detach(r->dev, UVF_PASID_NONE), 0);
	check(dma(r, 0x100000, 16, false), -EFAULT);
	uvf_memory_put(local);
	uvf_address_space_put(space);
	munmap(shared, 4 * PAGE);
	close(fd);
	free(bytes);
}

struct asynchronous {
	struct remote *r;
	_Atomic int stop;
	unsigned done;
};

/* A worker of the device, which does DMA whenever it likes. */
static void *worker(void *opaque)
{
	struct asynchronous *a = opaque;
	uint64_t value = 0, back;

	while (!a->stop) {
		value++;
		check(uvf_dma_write(a->r->h->device->dev, UVF_PASID_NONE, 0x200000, &value, 8), 0);
		check(uvf_dma_read(a->r->h->device->dev, UVF_PASID_NONE, 0x200000, &back, 8), 0);
		assert_int_equal(back, value);
		a->done++;
	}
	return NULL;
}

static void a_worker_does_dma_meanwhile(void **state)
{
	struct remote *r = *state;
	struct asynchronous a = {.r = r};
	struct uvf_address_space *space;
	struct uvf_memory *local;
	uint8_t *bytes = aligned_alloc(PAGE, 2 * PAGE);
	pthread_t thread;

	check(uvf_address_space_new(NULL, &space), 0);
	check(uvf_memory_new_local(bytes, 2 * PAGE, &local), 0);
	check(uvf_map(space, 0x200000, PAGE, UVF_PROT_RW, local, 0), 0);
	check(uvf_device_attach(r->dev, UVF_PASID_NONE, space), 0);
	write32(r, REG_BUS_MASTER, 1);
	check(pthread_create(&thread, NULL, worker, &a), 0);
	for (uint32_t i = 0; i < 300; i++) {
		write32(r, REG_SCRATCH, i);
		check((int)read32(r, REG_SCRATCH), (int)i);
		/* An unmap waits for readers of other mappings too. */
		check(uvf_map(space, 0x500000, PAGE, UVF_PROT_RW, local, PAGE), 0);
		check(uvf_unmap(space, 0x500000, PAGE, NULL), 0);
	}
	a.stop = 1;
	pthread_join(thread, NULL);
	assert_true(a.done > 0);
	check(uvf_device_detach(r->dev, UVF_PASID_NONE), 0);
	uvf_memory_put(local);
	uvf_address_space_put(space);
	free(bytes);
}

static void reset_and_reopen(void **state)
{
	struct remote *r = *state;

	write32(r, REG_SCRATCH, 5);
	check(uvf_device_reset(r->dev, UVF_RESET_DEVICE), 0);
	check((int)read32(r, REG_SCRATCH), 0);
	write32(r, REG_SCRATCH, 6);
	uvf_device_close(r->dev);
	check(uvf_device_open(r->dev), 0);
	check((int)read32(r, REG_SCRATCH), 0);
}

static void a_second_client_is_refused(void **state)
{
	struct remote *r = *state;
	struct uvf_client_config config = {.path = r->h->path};
	struct uvf_device *dev;
	struct uvf_error error = {""};

	for (int i = 0; i < 20; i++)
		check(uvf_client_connect(&config, &dev, &error), -EBUSY);
	assert_string_equal(error.text, "the device has another client");
	write32(r, REG_SCRATCH, 1);
}

static void the_server_goes(void **state)
{
	struct remote *r = *state;
	uint32_t value;

	uvf_server_stop(r->h->server);
	check((int)uvf_region_read(r->dev, 0, 0, &value, 4), -ENOTCONN);
	check(uvf_device_reset(r->dev, UVF_RESET_DEVICE), -ENOTCONN);
}

/* Descriptors of a device's are not for the programs that this one starts. */
static void no_descriptor_survives_exec(void **state)
{
	struct remote *r = *state;

	check((int)count_inherited(), (int)r->inherited_before);
}

static void many_clients_in_a_row(void **state)
{
	const char *given = getenv("UVFIO_TEST_CONNECTIONS");
	unsigned count = given ? (unsigned)strtoul(given, NULL, 0) : 300;
	struct uvf_client_config config = {.timeout_ms = LONG_TIME_MS};
	struct harness *h = harness_new(NULL);
	size_t threads = count_threads(), fds = count_fds();

	config.path = h->path;
	check(uvf_server_start(h->server), 0);
	for (unsigned i = 0; i < count; i++) {
		struct uvf_device *dev;
		uint32_t value = i;

		check(uvf_client_connect(&config, &dev, NULL), 0);
		check(uvf_device_open(dev), 0);
		check((int)uvf_region_read(dev, 0, 0, &value, 4), 4);
		check((int)value, 0);
		value = 1;
		check((int)uvf_region_write(dev, 0, 0, &value, 4), 4);
		uvf_device_free(dev);
	}
	uvf_server_stop(h->server);
	no_more_threads_than(threads);
	check((int)count_fds(), (int)fds);
	check((int)h->device->opens, (int)count);
	check((int)h->device->closes, (int)count);
	harness_free(h);
}

static void no_server(void **state)
{
	struct uvf_client_config config = {.path = "/tmp/uvfio-no-such-socket"};
	struct uvf_error error = {""};
	struct uvf_device *dev;

	check(uvf_client_connect(&config, &dev, &error), -ENOENT);
	assert_string_equal(error.text, "/tmp/uvfio-no-such-socket: No such file or directory");
}

#define BOTH(test)                                                        \
	{#test " (twin socket)", test, setup, teardown, NULL},            \
	{                                                                 \
#test " (one socket)", test, setup_shared, teardown, NULL \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(info_is_the_devices),
		BOTH(no_descriptor_survives_exec),
		BOTH(regions_are_read_and_written),
		BOTH(an_area_is_mapped),
		BOTH(large_accesses_go_in_pieces),
		BOTH(interrupts_arrive),
		BOTH(dma_reaches_memory),
		BOTH(a_worker_does_dma_meanwhile),
		BOTH(reset_and_reopen),
		BOTH(a_second_client_is_refused),
		BOTH(the_server_goes),
		cmocka_unit_test(many_clients_in_a_row),
		cmocka_unit_test(no_server),
	};

	pthread_t thread;

	/* A sanitizer's own thread comes with the first. */
	if (pthread_create(&thread, NULL, nothing, NULL) || pthread_join(thread, NULL))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
