/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Areas that change, as a program is told of them: capabilities of regions and of the IRQ, which is
 * beyond PCI's, and the way to PRE_COPY while it follows.
 */
#include "device_rig.h"

#include <stdlib.h>
#include <time.h>

#include "frontends/uapi/program_memory.h"

#define PAGE	   0x1000u
#define REMAP_IRQ  VFIO_PCI_NUM_IRQS
#define READ_WRITE (VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE)

static struct rig rig;
static struct uvf_area areas[2];

static int accept_read(struct uvf_device *dev, uint32_t index, uint64_t offset, void *buf,
		       size_t count)
{
	memset(buf, 0, count);
	return 0;
}

static int accept_write(struct uvf_device *dev, uint32_t index, uint64_t offset, const void *buf,
			size_t count)
{
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

static const struct uvf_device_ops ops = {.reset = reset};
static const char *const sections[] = {NULL};
static const struct uvf_migration_ops migration = {
	.name = "areas",
	.major = 1,
	.sections = sections,
	.save = save,
	.load = load,
	.save_early = save,
};

/* Two areas in four pages, of which the first goes while state is saved; and a BAR that is all one.
 */
static int setup(void **state)
{
	static const struct uvf_pci_bar_area described[] = {{PAGE, PAGE, UVF_AREA_NOT_WHILE_SAVING},
							    {3 * PAGE, PAGE, 0}};
	static const struct uvf_pci_bar_area whole[] = {{0, PAGE, 0}};
	static const struct uvf_pci_description description = {
		.vendor = 0x1b36,
		.device = 0x0010,
		.class_code = 0x088000,
		.bars[0] = {.kind = UVF_PCI_BAR_MEM32,
			    .size = 4 * PAGE,
			    .read = accept_read,
			    .write = accept_write,
			    .areas = described,
			    .area_count = 2,
			    .areas_change = true},
		.bars[1] = {.kind = UVF_PCI_BAR_MEM32,
			    .size = PAGE,
			    .read = accept_read,
			    .write = accept_write,
			    .areas = whole,
			    .area_count = 1},
	};
	struct uvf_error error = {""};
	struct uvf_region_info info;
	struct uvf_device *dev;

	rig_new(&rig);
	assert_int_equal(uapi_files_new(&rig.run), 0);
	assert_int_equal(uvf_pci_new("areas", &description, &ops, NULL, &dev, &error), 0);
	uvf_device_set_migration(dev, &migration);
	uvf_device_set_remap_timeout(dev, 60000);
	rig_replace(&rig, dev);
	assert_int_equal(uvf_region_get_info(dev, 0, &info), 0);
	assert_int_equal(info.area_count, 2);
	memcpy(areas, info.areas, sizeof(areas));
	return 0;
}

static int teardown(void **state)
{
	uapi_transitions_free(&rig.run);
	uapi_files_free(&rig.run);
	rig_free(&rig);
	return 0;
}

static void set_areas(const struct uvf_area *first, size_t count)
{
	int ret;

	uvf_device_lock(rig.device->dev);
	ret = uvf_region_set_areas(rig.device->dev, 0, first, count);
	uvf_device_unlock(rig.device->dev);
	assert_true(ret == 0 || ret == -EINPROGRESS);
}

/* ---- Regions ---- */

union answer {
	struct vfio_region_info info;
	struct uvf_irq_info_chain irq;
	uint8_t bytes[512];
};

static const void *find_capability(const union answer *answer, uint32_t at, uint16_t id)
{
	while (at) {
		const struct vfio_info_cap_header *header = (const void *)(answer->bytes + at);

		assert_int_equal(at % 8, 0);
		assert_int_equal(header->version, 1);
		if (header->id == id)
			return header;
		at = header->next;
	}
	return NULL;
}

static long region_info(union answer *answer, uint32_t index, uint32_t argsz)
{
	memset(answer, 0, sizeof(*answer));
	answer->info.argsz = argsz;
	answer->info.index = index;
	return rig_ioctl(&rig, VFIO_DEVICE_GET_REGION_INFO, answer);
}

static uint32_t changes_of(const union answer *answer)
{
	const struct uvf_region_info_cap_changes *changes =
		find_capability(answer, answer->info.cap_offset, UVF_REGION_INFO_CAP_CHANGES);

	assert_non_null(changes);
	assert_int_equal(changes->reserved, 0);
	return changes->flags;
}

static const struct vfio_region_info_cap_sparse_mmap *list_of(const union answer *answer,
							      uint16_t id)
{
	const struct vfio_region_info_cap_sparse_mmap *list =
		find_capability(answer, answer->info.cap_offset, id);

	assert_non_null(list);
	return list;
}

static void capabilities(void **state)
{
	const struct vfio_region_info_cap_sparse_mmap *list;
	union answer answer;

	assert_int_equal(region_info(&answer, 0, sizeof(answer)), 0);
	assert_int_equal(answer.info.flags & READ_WRITE, READ_WRITE);
	list = list_of(&answer, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
	assert_int_equal(list->nr_areas, 2);
	list = list_of(&answer, UVF_REGION_INFO_CAP_SAVING_AREAS);
	assert_int_equal(list->nr_areas, 1);
	assert_int_equal(list->areas[0].offset, 3 * PAGE);
	assert_int_equal(list->areas[0].size, PAGE);
	assert_int_equal(changes_of(&answer), 0);
	/* One whose areas stay has none of it. */
	assert_int_equal(region_info(&answer, 1, sizeof(answer)), 0);
	assert_int_equal(answer.info.flags & VFIO_REGION_INFO_FLAG_CAPS, 0);
	/* The list is that of now; no area is an empty list. */
	set_areas(&areas[1], 1);
	assert_int_equal(region_info(&answer, 0, sizeof(answer)), 0);
	list = list_of(&answer, VFIO_REGION_INFO_CAP_SPARSE_MMAP);
	assert_int_equal(list->nr_areas, 1);
	assert_int_equal(list->areas[0].offset, 3 * PAGE);
	set_areas(&areas[0], 1);
	assert_int_equal(region_info(&answer, 0, sizeof(answer)), 0);
	assert_int_equal(list_of(&answer, UVF_REGION_INFO_CAP_SAVING_AREAS)->nr_areas, 0);
	set_areas(NULL, 0);
	assert_int_equal(region_info(&answer, 0, sizeof(answer)), 0);
	assert_int_equal(list_of(&answer, UVF_REGION_INFO_CAP_SAVING_AREAS)->nr_areas, 0);
	assert_int_equal(answer.info.size, 4 * PAGE);
}

/* Only what has arrived counts as read. */
static void changes_are_delivered(void **state)
{
	union answer answer;
	uint32_t whole;
	uint8_t *cliff = rig_cliff();

	assert_int_equal(region_info(&answer, 0, sizeof(answer.info)), 0);
	whole = answer.info.argsz;
	assert_true(whole > sizeof(answer.info) && whole <= sizeof(answer));
	set_areas(&areas[1], 1);
	assert_int_equal(region_info(&answer, 0, sizeof(answer.info)), 0);
	whole = answer.info.argsz;
	for (uint32_t argsz = sizeof(answer.info); argsz < whole; argsz++) {
		assert_int_equal(region_info(&answer, 0, argsz), 0);
		assert_int_equal(answer.info.argsz, whole);
		assert_int_equal(answer.info.cap_offset, 0);
		assert_true(answer.info.flags & VFIO_REGION_INFO_FLAG_CAPS);
	}
	assert_int_equal(region_info(&answer, 0, sizeof(answer.info) - 1), -EINVAL);
	/* Its end can't be written. */
	for (uint32_t size = sizeof(answer.info); size < whole; size += 8) {
		struct vfio_region_info *at = (void *)(cliff + PAGE - size);

		*at = (struct vfio_region_info){.argsz = 4096, .index = 0};
		assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_REGION_INFO, at), -EFAULT);
	}
	assert_int_equal(region_info(&answer, 0, whole), 0);
	assert_int_equal(answer.info.argsz, whole);
	assert_int_equal(changes_of(&answer), UVF_REGION_CHANGED_AREAS);
	assert_int_equal(region_info(&answer, 0, whole), 0);
	assert_int_equal(changes_of(&answer), 0);
	munmap(cliff, 2UL * PAGE);
}

/* ---- The IRQ ---- */

static long irq_info(union answer *answer, uint32_t index, uint32_t argsz)
{
	memset(answer, 0x5a, sizeof(*answer));
	answer->irq.info = (struct vfio_irq_info){.argsz = argsz, .index = index};
	return rig_ioctl(&rig, VFIO_DEVICE_GET_IRQ_INFO, answer);
}

static void irq_infos(void **state)
{
	struct vfio_device_info info = {.argsz = sizeof(info)};
	const uint32_t base = sizeof(struct vfio_irq_info), header = 24;
	const struct vfio_region_info_cap_type *type;
	const struct uvf_irq_info_cap_regions *regions;
	union answer answer;
	uint32_t whole;

	assert_int_equal(rig_ioctl(&rig, VFIO_DEVICE_GET_INFO, &info), 0);
	assert_int_equal(info.num_irqs, REMAP_IRQ + 1);
	assert_int_equal(sizeof(struct uvf_irq_info_chain), header);
	for (uint32_t i = 0; i < VFIO_PCI_NUM_IRQS; i++) {
		long ret = irq_info(&answer, i, sizeof(answer));

		assert_int_equal(ret, i == VFIO_PCI_ERR_IRQ_INDEX ? -EINVAL : 0);
		assert_int_equal(answer.irq.info.argsz, sizeof(answer));
		assert_int_equal(answer.irq.info.flags & UVF_IRQ_INFO_FLAG_CAPS, 0);
		assert_int_equal(answer.irq.cap_offset, 0x5a5a5a5a);
	}
	assert_int_equal(irq_info(&answer, REMAP_IRQ, base - 1), -EINVAL);
	assert_int_equal(irq_info(&answer, REMAP_IRQ + 1, sizeof(answer)), -EINVAL);
	assert_int_equal(irq_info(&answer, UINT32_MAX, sizeof(answer)), -EINVAL);
	assert_int_equal(irq_info(&answer, REMAP_IRQ, base), 0);
	whole = answer.irq.info.argsz;
	assert_true(whole > header && whole <= sizeof(answer));
	for (uint32_t argsz = base; argsz < whole; argsz++) {
		assert_int_equal(irq_info(&answer, REMAP_IRQ, argsz), 0);
		assert_int_equal(answer.irq.info.argsz, whole);
		assert_int_equal(answer.irq.info.count, 1);
		assert_int_equal(answer.irq.info.flags,
				 VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE |
					 VFIO_IRQ_INFO_AUTOMASKED | UVF_IRQ_INFO_FLAG_CAPS);
		assert_int_equal(answer.irq.cap_offset, argsz < header ? 0x5a5a5a5a : 0);
		assert_int_equal(answer.bytes[header], 0x5a);
	}
	assert_int_equal(irq_info(&answer, REMAP_IRQ, whole), 0);
	assert_int_equal(answer.irq.info.argsz, whole);
	assert_int_equal(answer.irq.reserved, 0);
	assert_int_equal(answer.bytes[whole], 0x5a);
	type = find_capability(&answer, answer.irq.cap_offset, UVF_IRQ_INFO_CAP_TYPE);
	assert_non_null(type);
	assert_int_equal(type->type, UVF_IRQ_TYPE_REMAP);
	assert_int_equal(type->subtype, UVF_IRQ_SUBTYPE_REMAP_REGION);
	regions = find_capability(&answer, answer.irq.cap_offset, UVF_IRQ_INFO_CAP_REGIONS);
	assert_non_null(regions);
	assert_int_equal(regions->count, 1);
	assert_int_equal(regions->regions[0], 0);
}

static long set_irq(uint32_t flags, uint32_t start, uint32_t count, int fd)
{
	bool has_fd = flags & VFIO_IRQ_SET_DATA_EVENTFD;

	return rig_set_irqs(&rig, flags, REMAP_IRQ, start, count, &fd, has_fd ? 4 : 0);
}

static void irq_fires(void **state)
{
	const uint32_t trigger = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	const uint32_t unmask = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK;
	int fd = eventfd(0, EFD_NONBLOCK), not_one = memfd_create("none", 0);
	union answer answer;

	assert_true(fd >= 0 && not_one >= 0);
	assert_int_equal(set_irq(unmask, 0, 1, -1), -EINVAL);
	assert_int_equal(set_irq(trigger, 1, 1, fd), -EINVAL);
	assert_int_equal(set_irq(trigger, 0, 2, fd), -EINVAL);
	assert_int_equal(set_irq(trigger, 0, 1, not_one), -EINVAL);
	assert_int_equal(set_irq(trigger | VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, fd), -ENOTTY);
	assert_int_equal(set_irq(VFIO_IRQ_SET_DATA_EVENTFD, 0, 1, fd), -ENOTTY);
	assert_int_equal(set_irq(trigger | VFIO_IRQ_SET_DATA_NONE, 0, 1, fd), -EINVAL);
	assert_int_equal(rig_set_irqs(&rig, trigger, REMAP_IRQ + 1, 0, 1, &fd, 4), -EINVAL);
	assert_int_equal(rig_set_irqs(&rig, trigger, UINT32_MAX, 0, 1, &fd, 4), -EINVAL);

	assert_int_equal(set_irq(trigger, 0, 1, fd), 0);
	assert_int_equal(set_irq(VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_MASK, 0, 1, fd),
			 -ENOTTY);
	set_areas(&areas[1], 1);
	assert_true(rig_is_signalled(fd));
	/* It is masked: what comes meanwhile comes later. */
	assert_int_equal(region_info(&answer, 0, sizeof(answer)), 0);
	assert_int_equal(changes_of(&answer), UVF_REGION_CHANGED_AREAS);
	set_areas(areas, 2);
	assert_false(rig_is_signalled(fd));
	assert_int_equal(set_irq(unmask, 0, 1, -1), 0);
	assert_true(rig_is_signalled(fd));
	assert_int_equal(region_info(&answer, 0, sizeof(answer)), 0);
	assert_int_equal(changes_of(&answer), UVF_REGION_CHANGED_AREAS);
	assert_int_equal(set_irq(unmask, 0, 1, -1), 0);
	assert_false(rig_is_signalled(fd));
	assert_int_equal(set_irq(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, -1),
			 0);
	set_areas(&areas[1], 1);
	assert_false(rig_is_signalled(fd));
	close(not_one);
	close(fd);
}

/* ---- The way to PRE_COPY ---- */

struct state_argument { /* struct vfio_device_feature with its data */
	uint32_t argsz, flags;
	struct vfio_device_feature_mig_state state;
};

static long set_state(struct state_argument *argument, uint32_t state)
{
	*argument = (struct state_argument){
		.argsz = sizeof(*argument),
		.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
		.state = {.device_state = state, .data_fd = -7},
	};
	return rig_ioctl(&rig, VFIO_DEVICE_FEATURE, argument);
}

static void await_data_fd(struct state_argument *argument)
{
	const struct timespec some = {.tv_nsec = 1000000};

	for (unsigned i = 0;
	     __atomic_load_n(&argument->state.data_fd, __ATOMIC_ACQUIRE) == -7 && i < 20000; i++)
		nanosleep(&some, NULL);
	assert_true(argument->state.data_fd >= 0);
}

/* Nothing is mapped: nothing is waited for. What was mapped for good is never known to be gone. */
static void unknown_mappings(void **state)
{
	struct state_argument argument;

	assert_int_equal(set_state(&argument, VFIO_DEVICE_STATE_PRE_COPY), 0);
	assert_true(argument.state.data_fd >= 0);
	close(argument.state.data_fd);
	assert_int_equal(set_state(&argument, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_int_equal(uapi_known_begin_mapping(rig.device, 0, 3 * PAGE, PAGE), 0);
	uapi_known_end_mapping(rig.device);
	assert_int_equal(set_state(&argument, VFIO_DEVICE_STATE_PRE_COPY), 0);
	close(argument.state.data_fd);
	assert_int_equal(set_state(&argument, VFIO_DEVICE_STATE_RUNNING), 0);
	assert_int_equal(uapi_known_begin_mapping(rig.device, 0, PAGE, PAGE), 0);
	uapi_known_end_mapping(rig.device);
	assert_int_equal(set_state(&argument, VFIO_DEVICE_STATE_PRE_COPY), -ENODEV);
	assert_int_equal(argument.state.data_fd, -7);
}

/* The call waits for the driver; other calls are answered meanwhile. */
static void waits_for_driver(void **state)
{
	const uint32_t trigger = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
	struct state_argument waiting, other;
	int fd = eventfd(0, EFD_NONBLOCK);
	union answer answer;

	assert_int_equal(set_irq(trigger, 0, 1, fd), 0);
	assert_int_equal(uapi_known_begin_mapping(rig.device, 0, PAGE, PAGE), 0);
	uapi_known_end_mapping(rig.device);
	assert_int_equal(set_state(&waiting, VFIO_DEVICE_STATE_PRE_COPY), UAPI_TAKEN);
	assert_true(rig_is_signalled(fd));
	assert_int_equal(set_state(&other, VFIO_DEVICE_STATE_STOP), -EBUSY);
	assert_int_equal(region_info(&answer, 0, sizeof(answer)), 0);
	assert_int_equal(changes_of(&answer), UVF_REGION_CHANGED_AREAS);
	assert_int_equal(waiting.state.data_fd, -7);
	assert_int_equal(set_irq(VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, -1), 0);
	await_data_fd(&waiting);
	assert_int_equal(waiting.state.device_state, VFIO_DEVICE_STATE_PRE_COPY);
	assert_int_equal(uvf_migration_state(rig.device->dev), VFIO_DEVICE_STATE_PRE_COPY);
	close(waiting.state.data_fd);
	assert_int_equal(set_state(&other, VFIO_DEVICE_STATE_RUNNING), 0);
	/* Going back ends the wait, and the call fails. */
	assert_int_equal(set_state(&waiting, VFIO_DEVICE_STATE_PRE_COPY), UAPI_TAKEN);
	assert_int_equal(set_state(&other, VFIO_DEVICE_STATE_RUNNING), 0);
	uapi_transitions_free(&rig.run);
	assert_int_equal(waiting.state.data_fd, -7);
	assert_int_equal(uvf_migration_state(rig.device->dev), VFIO_DEVICE_STATE_RUNNING);
	close(fd);
}

/* ---- Peers ---- */

static void peers_make_calls(void **state)
{
	struct uapi_part part;

	assert_int_equal(uapi_program_region_part(rig.device->dev, 0, PAGE, 3 * PAGE, &part), 0);
	assert_int_equal(part.fd, -1);
	assert_int_equal(part.size, 3 * PAGE);
	uvf_memory_put(part.memory);
	assert_int_equal(uapi_program_region_part(rig.device->dev, 1, 0, PAGE, &part), 0);
	assert_true(part.fd >= 0);
	close(part.fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(capabilities, setup, teardown),
		cmocka_unit_test_setup_teardown(changes_are_delivered, setup, teardown),
		cmocka_unit_test_setup_teardown(irq_infos, setup, teardown),
		cmocka_unit_test_setup_teardown(irq_fires, setup, teardown),
		cmocka_unit_test_setup_teardown(unknown_mappings, setup, teardown),
		cmocka_unit_test_setup_teardown(waits_for_driver, setup, teardown),
		cmocka_unit_test_setup_teardown(peers_make_calls, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
