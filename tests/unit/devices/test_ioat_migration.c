/* SPDX-License-Identifier: BSD-3-Clause */
/* The DMA engine goes to another device, between two descriptors of a chain, and goes on there. */
#include "ioat_rig.h"

#include <errno.h>
#include <uvfio/migration.h>

static uint8_t stream[65536];

static size_t save(struct rig *rig)
{
	size_t size = 0;
	ssize_t ret;

	assert_int_equal(uvf_migration_set_state(rig->dev, VFIO_DEVICE_STATE_STOP_COPY), 0);
	while ((ret = uvf_migration_read(rig->dev, stream + size, sizeof(stream) - size)) > 0)
		size += (size_t)ret;
	assert_int_equal(ret, 0);
	return size;
}

static int load(struct rig *rig, size_t size)
{
	ssize_t ret;

	assert_int_equal(uvf_migration_set_state(rig->dev, VFIO_DEVICE_STATE_RESUMING), 0);
	ret = uvf_migration_write(rig->dev, stream, size);
	if (ret < 0)
		return (int)ret;
	return uvf_migration_set_state(rig->dev, VFIO_DEVICE_STATE_RUNNING);
}

static void goes_on(void **state)
{
	static struct rig from, to;
	size_t size;

	rig_open(&from, "ioat", true);
	rig_open(&to, "ioat", true);
	for (unsigned i = 0; i < 8; i++)
		rig_copy(&from, i, 4096, i == 7 ? IOAT_DESC_COMPLETION : 0);
	rig_start(&from, 0, 8);
	assert_int_equal(ioat_run(from.ioat, 3), 3);
	/* Asked to be still, it begins nothing. */
	assert_int_equal(uvf_migration_set_state(from.dev, VFIO_DEVICE_STATE_RUNNING_P2P), 0);
	assert_int_equal(ioat_run(from.ioat, 3), 0);
	size = save(&from);
	assert_int_equal(ioat_run(from.ioat, 3), 0);
	/* Its memory goes as its driver moves it. */
	memcpy(to.memory, from.memory, RIG_MEMORY);
	assert_int_equal(load(&to, size), 0);
	assert_int_equal(rig_status(&to), IOAT_ACTIVE);
	for (uint64_t at = 0; at < IOAT_CHANNEL_0 + 0x80; at += 4)
		assert_int_equal(rig_get(&from, at, 4), rig_get(&to, at, 4));
	assert_int_equal(ioat_run(to.ioat, 100), 5);
	assert_int_equal(rig_status(&to), IOAT_DONE);
	assert_int_equal(rig_record(&to), rig_descriptor(7) | IOAT_DONE);
	assert_int_equal(rig_record(&from), 0);
	/* The source, after all. */
	assert_int_equal(uvf_migration_set_state(from.dev, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_int_equal(ioat_run(from.ioat, 100), 5);
	assert_int_equal(rig_record(&from), rig_descriptor(7) | IOAT_DONE);
	rig_close(&from);
	rig_close(&to);
}

static void of_another_make(void **state)
{
	static struct rig from, to;
	size_t size;

	rig_open(&from, "ioat,channels=2", true);
	size = save(&from);
	rig_open(&to, "ioat", true);
	assert_int_equal(load(&to, size), -EINVAL);
	rig_close(&to);
	rig_open(&to, "ioat,channels=2,xfercap=64K", true);
	assert_int_equal(load(&to, size), -EINVAL);
	rig_close(&to);
	rig_open(&to, "ioat,channels=2", true);
	assert_int_equal(load(&to, size), 0);
	rig_close(&to);
	rig_close(&from);
}

static void beside_its_worker(void **state)
{
	static struct rig from, to;

	rig_open(&from, "ioat", false);
	rig_open(&to, "ioat", false);
	for (unsigned i = 0; i < 50; i++) {
		size_t size;

		rig_describe(&from, 0,
			     (struct ioat_descriptor){.size = 64u << 10,
						      .source = rig_iova(RIG_SOURCE),
						      .destination = rig_iova(RIG_TARGET),
						      .next = rig_descriptor(0)});
		rig_start(&from, 0, 60000);
		assert_int_equal(rig_status(&from), IOAT_ACTIVE);
		size = save(&from);
		memcpy(to.memory, from.memory, RIG_MEMORY);
		assert_int_equal(load(&to, size), 0);
		assert_int_equal(rig_status(&to), IOAT_ACTIVE);
		assert_int_equal(uvf_device_reset(from.dev, UVF_RESET_DEVICE), 0);
		assert_int_equal(uvf_device_reset(to.dev, UVF_RESET_DEVICE), 0);
		rig_config_put(&from, PCI_COMMAND, RIG_COMMAND, 2);
		rig_config_put(&to, PCI_COMMAND, RIG_COMMAND, 2);
	}
	rig_close(&from);
	rig_close(&to);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_on),
		cmocka_unit_test(of_another_make),
		cmocka_unit_test(beside_its_worker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
