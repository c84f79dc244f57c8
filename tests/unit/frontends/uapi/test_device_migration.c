/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device's state by a descriptor, and its dirty log, as a program asks for them: of a device here
 * and of one behind a socket.
 */
#include "device_rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "../../../wire/far.h"

static struct rig rig;
static struct uvf_device *writes; /* what is logged */

#define GET   VFIO_DEVICE_FEATURE_GET
#define SET   VFIO_DEVICE_FEATURE_SET
#define PROBE VFIO_DEVICE_FEATURE_PROBE

static int setup(void **state)
{
	struct uvf_error error = {""};
	struct uvf_device *dev;

	rig_new(&rig);
	assert_int_equal(uapi_files_new(&rig.run), 0);
	assert_int_equal(uvf_model_create("ioat", &dev, &error), 0);
	rig_replace(&rig, dev);
	writes = dev;
	return 0;
}

static int teardown(void **state)
{
	uapi_files_free(&rig.run);
	rig_free(&rig);
	return 0;
}

static struct far far;

static int setup_far(void **state)
{
	rig_new(&rig);
	assert_int_equal(uapi_files_new(&rig.run), 0);
	far_open(&far, "ioat", false);
	rig_replace(&rig, far.dev);
	writes = far.model;
	return 0;
}

static int teardown_far(void **state)
{
	teardown(state);
	far.dev = NULL;
	far_close(&far);
	return 0;
}

/* A feature's data, in and out. */
static long feature(uint32_t flags, void *data, size_t size)
{
	struct { /* struct vfio_device_feature with its data */
		uint32_t argsz, flags;
		uint8_t data[64];
	} argument = {.argsz = (uint32_t)(offsetof(typeof(argument), data) + size), .flags = flags};
	long ret;

	if (size)
		memcpy(argument.data, data, size);
	ret = rig_ioctl(&rig, VFIO_DEVICE_FEATURE, &argument);
	if (size)
		memcpy(data, argument.data, size);
	return ret;
}

static long set_state(uint32_t state, int *fd)
{
	struct vfio_device_feature_mig_state argument = {.device_state = state};
	long ret = feature(SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &argument, sizeof(argument));

	*fd = ret ? -1 : argument.data_fd;
	return ret;
}

static uint32_t get_state(void)
{
	struct vfio_device_feature_mig_state argument = {0};

	assert_int_equal(
		feature(GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &argument, sizeof(argument)),
		0);
	assert_int_equal(argument.data_fd, -1);
	return argument.device_state;
}

/* What read() or write() on a descriptor of ours does. */
static ssize_t move(int fd, bool write, void *buf, size_t count)
{
	struct uapi_file *file = uapi_file_find(&rig.call, fd);
	struct uapi_access access = {.write = write, .address = (uintptr_t)buf, .count = count};
	ssize_t ret;

	assert_non_null(file);
	ret = file->ops->access(file, &rig.call, &access);
	uapi_file_put(file);
	return ret;
}

static long precopy_info(int fd, struct vfio_precopy_info *info)
{
	struct uapi_file *file = uapi_file_find(&rig.call, fd);
	long ret = file->ops->ioctl(file, &rig.call, VFIO_MIG_GET_PRECOPY_INFO, (uintptr_t)info);

	uapi_file_put(file);
	return ret;
}

static uint8_t stream[65536];

static size_t read_all(int fd, size_t piece)
{
	size_t size = 0;
	ssize_t ret;

	while ((ret = move(fd, false, stream + size, piece)) > 0)
		size += (size_t)ret;
	assert_int_equal(ret, 0);
	return size;
}

static void there_is_migration(void **state)
{
	struct vfio_device_feature_migration flags = {0};
	struct vfio_device_feature_mig_data_size size = {0};

	assert_int_equal(feature(PROBE | GET | VFIO_DEVICE_FEATURE_MIGRATION, NULL, 0), 0);
	assert_int_equal(feature(PROBE | SET | VFIO_DEVICE_FEATURE_MIGRATION, NULL, 0), -EINVAL);
	assert_int_equal(feature(GET | VFIO_DEVICE_FEATURE_MIGRATION, &flags, sizeof(flags)), 0);
	assert_int_equal(flags.flags,
			 VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY);
	assert_int_equal(feature(GET | VFIO_DEVICE_FEATURE_MIGRATION, &flags, 7), -EINVAL);
	assert_int_equal(feature(GET | VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, &size, sizeof(size)), 0);
	assert_true(size.stop_copy_length >= 4096);
	assert_int_equal(get_state(), VFIO_DEVICE_STATE_RUNNING);
	/* A device without. */
	rig.device = &rig.devices[1];
	assert_int_equal(feature(PROBE | GET | VFIO_DEVICE_FEATURE_MIGRATION, NULL, 0), -ENOTTY);
	rig.device = &rig.devices[0];
}

static void a_session(void **state)
{
	size_t size;
	int fd, other;
	char byte;

	assert_int_equal(set_state(VFIO_DEVICE_STATE_RUNNING, &fd), 0);
	assert_int_equal(fd, -1);
	assert_int_equal(set_state(VFIO_DEVICE_STATE_ERROR, &fd), -EINVAL);
	assert_int_equal(set_state(99, &fd), -EINVAL);
	assert_int_equal(set_state(VFIO_DEVICE_STATE_STOP_COPY, &fd), 0);
	assert_true(fd >= 0);
	assert_int_equal(get_state(), VFIO_DEVICE_STATE_STOP_COPY);
	assert_int_equal(move(fd, true, &byte, 1), -EBADF);
	assert_int_equal(move(fd, false, (void *)8, 1), -EFAULT);
	size = read_all(fd, 100);
	assert_true(size > 4096);
	/* What EFAULT lost is lost: the whole is read again. */
	assert_int_equal(set_state(VFIO_DEVICE_STATE_STOP, &other), 0);
	assert_int_equal(other, -1);
	assert_int_equal(move(fd, false, &byte, 1), -EINVAL);
	assert_int_equal(set_state(VFIO_DEVICE_STATE_STOP_COPY, &other), 0);
	/* An older session's descriptor is none any more. */
	assert_int_equal(move(fd, false, &byte, 1), -ENODEV);
	close(fd);
	size = read_all(other, sizeof(stream));
	close(other);

	assert_int_equal(set_state(VFIO_DEVICE_STATE_RUNNING, &fd), 0);
	assert_int_equal(set_state(VFIO_DEVICE_STATE_RESUMING, &fd), 0);
	assert_true(fd >= 0);
	assert_int_equal(move(fd, false, &byte, 1), -EBADF);
	assert_int_equal(move(fd, true, stream, size), size);
	close(fd);
	assert_int_equal(set_state(VFIO_DEVICE_STATE_RUNNING, &fd), 0);
	assert_int_equal(get_state(), VFIO_DEVICE_STATE_RUNNING);
}

static void before_it_stops(void **state)
{
	struct vfio_precopy_info info = {.argsz = sizeof(info)};
	char byte;
	int fd, same;

	assert_int_equal(set_state(VFIO_DEVICE_STATE_PRE_COPY, &fd), 0);
	assert_true(fd >= 0);
	assert_int_equal(precopy_info(fd, &info), 0);
	assert_int_equal(info.initial_bytes, 40);
	assert_int_equal(info.dirty_bytes, 0);
	info.argsz--;
	assert_int_equal(precopy_info(fd, &info), -EINVAL);
	assert_int_equal(move(fd, false, stream, sizeof(stream)), 40);
	assert_int_equal(move(fd, false, &byte, 1), -ENOMSG);
	/* It goes on in the same descriptor. */
	assert_int_equal(set_state(VFIO_DEVICE_STATE_STOP_COPY, &same), 0);
	assert_int_equal(same, -1);
	info.argsz = sizeof(info);
	assert_int_equal(precopy_info(fd, &info), -EINVAL);
	assert_true(read_all(fd, 4096) > 4096);
	assert_int_equal(set_state(VFIO_DEVICE_STATE_RUNNING, &same), 0);
	close(fd);
}

static void a_bad_stream(void **state)
{
	int fd;

	assert_int_equal(set_state(VFIO_DEVICE_STATE_RESUMING, &fd), 0);
	memset(stream, 0, 64);
	assert_int_equal(move(fd, true, stream, 64), -EINVAL);
	assert_int_equal(set_state(VFIO_DEVICE_STATE_STOP, &fd), -EINVAL);
	assert_int_equal(get_state(), VFIO_DEVICE_STATE_ERROR);
	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_RESET, NULL), 0);
	assert_int_equal(get_state(), VFIO_DEVICE_STATE_RUNNING);
}

/* ---- Two threads that set states ---- */

#define CHANGES 20000

static atomic_uint sessions;

static int save(struct uvf_device *dev, struct uvf_state_writer *writer)
{
	atomic_fetch_add(&sessions, 1);
	return 0;
}

static const struct uvf_migration_ops counting = {.name = "counting", .save = save};

/* Which file it is doesn't matter, only that there is one. Returns how many there were. */
static void *change_states(void *opaque)
{
	struct uapi_call call = {.run = &rig.run};
	uintptr_t files = 0;

	for (unsigned i = 0; i < CHANGES; i++) {
		struct {
			uint32_t argsz, flags;
			struct vfio_device_feature_mig_state state;
		} argument = {sizeof(argument), SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, {0}};

		argument.state.device_state =
			i % 2 ? VFIO_DEVICE_STATE_RUNNING : VFIO_DEVICE_STATE_STOP_COPY;
		if (uapi_device_ioctl(rig.device, NULL, &call, VFIO_DEVICE_FEATURE,
				      (uintptr_t)&argument))
			return NULL;
		if (argument.state.data_fd >= 0) {
			files++;
			close(argument.state.data_fd);
		}
	}
	return (void *)files;
}

static void each_session_has_one_descriptor(void **state)
{
	const struct uvf_pci_description description = {.vendor = 0x1b36};
	static const struct uvf_device_ops ops;
	struct uvf_error error = {""};
	struct uvf_device *dev;
	void *files[2];
	pthread_t other;

	assert_int_equal(uvf_pci_new("rig", &description, &ops, NULL, &dev, &error), 0);
	uvf_device_set_migration(dev, &counting);
	rig_replace(&rig, dev);
	assert_int_equal(pthread_create(&other, NULL, change_states, NULL), 0);
	files[0] = change_states(NULL);
	assert_int_equal(pthread_join(other, &files[1]), 0);
	assert_int_equal((uintptr_t)files[0] + (uintptr_t)files[1], atomic_load(&sessions));
}

/* ---- Dirty log ---- */

static long start(uint64_t page_size, uint32_t count, const void *ranges)
{
	struct vfio_device_feature_dma_logging_control control = {
		.page_size = page_size,
		.num_ranges = count,
		.ranges = (uintptr_t)ranges,
	};

	return feature(SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START, &control, sizeof(control));
}

static long report(uint64_t iova, uint64_t length, uint64_t page_size, void *bitmap)
{
	struct vfio_device_feature_dma_logging_report argument = {
		.iova = iova,
		.length = length,
		.page_size = page_size,
		.bitmap = (uintptr_t)bitmap,
	};

	return feature(GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, &argument, sizeof(argument));
}

static long stop(void)
{
	return feature(SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, NULL, 0);
}

static void refused_ranges(void **state)
{
	static struct vfio_device_feature_dma_logging_range many[257];
	const struct vfio_device_feature_dma_logging_range two[] = {{0, 8192}, {4096, 4096}};
	const struct vfio_device_feature_dma_logging_range odd = {0, 4097}, odd_start = {1, 4096};
	const struct vfio_device_feature_dma_logging_range end = {-4096ULL, 8192};

	assert_int_equal(start(4096, 0, two), -EINVAL);
	assert_int_equal(start(0, 1, two), -EINVAL);
	assert_int_equal(start(4095, 1, two), -EINVAL);
	assert_int_equal(start(4096, 257, many), -E2BIG);
	assert_int_equal(start(4096, 1, (void *)8), -EFAULT);
	assert_int_equal(start(4096, 2, two), -EINVAL);
	assert_int_equal(start(4096, 1, &odd), -EINVAL);
	assert_int_equal(start(4096, 1, &odd_start), -EINVAL);
	assert_int_equal(start(4096, 1, &end), -EOVERFLOW);
	assert_int_equal(stop(), 0);
}

static void what_was_written(void **state)
{
	const struct vfio_device_feature_dma_logging_range range = {0, 1ULL << 40};
	struct uvf_device *dev = rig.device->dev;
	struct uvf_address_space *space;
	struct uvf_memory *memory;
	uint64_t bitmap[3] = {0};
	uint8_t *bytes = aligned_alloc(4096, 64 * 4096);
	uint8_t *cliff = rig_cliff();

	assert_int_equal(uvf_address_space_new(NULL, &space), 0);
	assert_int_equal(uvf_memory_new_local(bytes, 64 * 4096, &memory), 0);
	assert_int_equal(uvf_map(space, 0, 64 * 4096, UVF_PROT_RW, memory, 0), 0);
	assert_int_equal(uvf_device_attach(dev, UVF_PASID_NONE, space), 0);
	rig_set_config(&rig, PCI_COMMAND, PCI_COMMAND_MASTER, 2);

	assert_int_equal(feature(PROBE | SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START, NULL, 0), 0);
	assert_int_equal(report(0, 4096, 4096, bitmap), -EINVAL);
	assert_int_equal(start(4096, 1, &range), 0);
	assert_int_equal(start(4096, 1, &range), -EINVAL);
	assert_int_equal(uvf_dma_write(writes, UVF_PASID_NONE, 5 * 4096 - 1, "xy", 2), 0);
	assert_int_equal(report(0, 4096, 2048, bitmap), -EINVAL);
	assert_int_equal(report(0, 4096, 12288, bitmap), -EINVAL);
	assert_int_equal(report(-4096ULL, 8192, 4096, bitmap), -EOVERFLOW);
	/* Bits are added to what is there; a fault loses none. */
	assert_int_equal(report(0, 1ULL << 40, 4096, cliff + 4096), -EFAULT);
	bitmap[0] = 1ULL << 63;
	bitmap[1] = 7;
	assert_int_equal(report(0, 1ULL << 20, 4096, bitmap), 0);
	assert_true(bitmap[0] == (1ULL << 63 | 1 << 4 | 1 << 5));
	assert_int_equal(bitmap[1], 7);
	bitmap[0] = 0;
	assert_int_equal(report(0, 1ULL << 20, 4096, bitmap), 0);
	assert_int_equal(bitmap[0], 0);
	/* Not all of 2^63 bytes is looked through with nothing to put it into. */
	assert_int_equal(report(0, 1ULL << 63, 4096, (void *)8), -EFAULT);
	assert_int_equal(report(0, 1ULL << 63, 4096, cliff), -EFAULT);
	/* In larger pages, from the middle. */
	assert_int_equal(uvf_dma_write(writes, UVF_PASID_NONE, 5 * 4096, "x", 1), 0);
	assert_int_equal(report(4 * 4096, 8 * 4096, 8192, bitmap), 0);
	assert_int_equal(bitmap[0], 1);
	assert_int_equal(stop(), 0);
	assert_int_equal(report(0, 4096, 4096, bitmap), -EINVAL);
	uvf_device_detach(dev, UVF_PASID_NONE);
	uvf_address_space_put(space);
	uvf_memory_put(memory);
	free(bytes);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
#define FAR(function)  cmocka_unit_test_setup_teardown(function, setup_far, teardown_far)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(there_is_migration),
		TEST(a_session),
		TEST(before_it_stops),
		TEST(a_bad_stream),
		TEST(refused_ranges),
		TEST(what_was_written),
		TEST(each_session_has_one_descriptor),
		FAR(there_is_migration),
		FAR(a_session),
		FAR(before_it_stops),
		FAR(a_bad_stream),
		FAR(refused_ranges),
		FAR(what_was_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
