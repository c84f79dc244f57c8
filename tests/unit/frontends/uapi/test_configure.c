/* SPDX-License-Identifier: BSD-3-Clause */
/* A run's groups, as its devices are told of them: it shows in what dirty reports have. */
#include "helpers.h"

#include <uvfio/client.h>
#include <uvfio/dirty.h>
#include <uvfio/dma.h>

#include "frontends/uapi/configure.h"

static uint8_t memory[PAGE] __attribute__((aligned(PAGE)));

static int reset(struct uvf_device *dev, enum uvf_reset kind)
{
	return 0;
}

static struct uvf_device *silent_device(struct uvf_address_space *space)
{
	static const struct uvf_device_ops ops = {.reset = reset};
	struct uvf_device *dev;

	assert_int_equal(uvf_device_new("silent", &ops, VFIO_DEVICE_FLAGS_PCI, NULL, &dev), 0);
	uvf_device_set_silent(dev);
	assert_int_equal(uvf_device_open(dev), 0);
	uvf_device_set_bus_master(dev, true);
	assert_int_equal(uvf_device_attach(dev, UVF_PASID_NONE, space), 0);
	return dev;
}

static void pin(struct uvf_device *dev)
{
	struct uvf_pin pinned;
	struct iovec iov;

	assert_int_equal(
		uvf_dma_pin(dev, UVF_PASID_NONE, 0, PAGE, UVF_PROT_WRITE, &pinned, &iov, 1), 1);
	uvf_dma_unpin(dev, &pinned);
}

static void test_groups(void **state)
{
	char *arguments[] = {(char[]){"true"}, NULL};
	struct uvf_run_device devices[4];
	struct uvf_run_config config = {
		.argv = arguments,
		.devices = devices,
		.device_count = 4,
	};
	struct uvf_address_space *space;
	struct uvf_memory *local;
	struct uvf_error error;
	struct uvf_run *run;

	assert_int_equal(uvf_address_space_new(NULL, &space), 0);
	assert_int_equal(uvf_memory_new_local(memory, PAGE, &local), 0);
	assert_int_equal(uvf_map(space, 0, PAGE, UVF_PROT_RW, local, 0), 0);
	for (size_t i = 0; i < 4; i++)
		devices[i] = (struct uvf_run_device){
			.dev = silent_device(space),
			.group = i < 2 ? 5 : -1,
			.numa_node = -1,
		};
	assert_int_equal(uapi_configure(&config, &run, &error), 0);
	assert_int_equal(uvf_dirty_wide(space), 4);
	for (size_t i = 0; i < 4; i++)
		pin(devices[i].dev);
	/* The two of a group can't speak for each other. */
	assert_int_equal(uvf_dirty_wide(space), 2);
	uapi_configure_free(run);
	pin(devices[0].dev);
	assert_int_equal(uvf_dirty_wide(space), 1);
	/* A configuration that is refused leaves nothing behind. */
	devices[3].address = devices[2].address = "65:00.0";
	assert_int_equal(uapi_configure(&config, &run, &error), -EINVAL);
	pin(devices[1].dev);
	assert_int_equal(uvf_dirty_wide(space), 0);
	for (size_t i = 0; i < 4; i++) {
		uvf_device_close(devices[i].dev);
		uvf_device_free(devices[i].dev);
	}
	uvf_memory_put(local);
	uvf_address_space_put(space);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
