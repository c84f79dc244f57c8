/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An iommufd beside a model of one: random commands on objects and devices, and after each the
 * result, the ids and what is in use are what the model says. The seed is printed, and can be
 * given: UVFIO_TEST_SEED.
 */
#include "iommufd_rig.h"

#include <stdlib.h>

#define STEPS	   50000
#define IDS	   24
#define PAGES	   16 /* that are mapped, in each address space: IOVA (1 + n) * PAGE */
#define FIRST_IOVA 0x100000ULL

static char memory[PAGES * PAGE] __attribute__((aligned(4096)));

enum kind { NONE, IOAS, HWPT, DEVICE };

struct object {
	enum kind kind;
	/* IOAS: */
	bool mapped[PAGES];
	unsigned made; /* the id of the page table that attaching made */
	/* HWPT: */
	unsigned ioas;
	bool is_made;
	/* DEVICE: */
	size_t index;
	unsigned attached; /* to which page table */
};

struct reference {
	struct object objects[IDS + 1];
	unsigned ids[DEVICES]; /* of devices that are bound */
};

static struct reference expected;
static int fd, cdevs[DEVICES];
static uint64_t state_of_random;

static unsigned choose(unsigned below)
{
	state_of_random = state_of_random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)((state_of_random >> 33) % below);
}

static unsigned lowest_free(void)
{
	for (unsigned id = 1; id <= IDS; id++)
		if (expected.objects[id].kind == NONE)
			return id;
	return 0;
}

static enum kind kind_of(unsigned id)
{
	return id >= 1 && id <= IDS ? expected.objects[id].kind : NONE;
}

/* How many page tables there are of an address space, or devices attached to a page table. */
static unsigned users(unsigned id)
{
	unsigned count = 0;

	for (unsigned i = 1; i <= IDS; i++) {
		const struct object *object = &expected.objects[i];

		count += kind_of(id) == IOAS && object->kind == HWPT && object->ioas == id;
		count += kind_of(id) == HWPT && object->kind == DEVICE && object->attached == id;
	}
	return count + (kind_of(id) == DEVICE);
}

static void drop_made(unsigned id)
{
	if (expected.objects[id].is_made && users(id) == 0) {
		expected.objects[expected.objects[id].ioas].made = 0;
		expected.objects[id] = (struct object){NONE};
	}
}

static void step_alloc(struct world *world)
{
	unsigned id = lowest_free();

	if (!id)
		return;
	assert_int_equal(ioas_alloc(world, fd), id);
	expected.objects[id] = (struct object){.kind = IOAS};
}

static void step_destroy(struct world *world)
{
	unsigned id = choose(IDS + 2);
	long error = kind_of(id) == NONE ? -ENOENT : (users(id) ? -EBUSY : 0);

	assert_int_equal(destroy(world, fd, id), error);
	if (!error)
		expected.objects[id] = (struct object){NONE};
}

static void step_hwpt(struct world *world)
{
	unsigned device = choose(IDS + 2), table = choose(IDS + 2), id = lowest_free();
	uint32_t out;
	long error = 0;

	if (!id)
		return;
	if (kind_of(device) != DEVICE)
		error = -ENOENT;
	else if (kind_of(table) == HWPT)
		error = -EOPNOTSUPP;
	else if (kind_of(table) != IOAS)
		error = -EINVAL;
	assert_int_equal(hwpt_alloc(world, fd, 0, device, table, &out), error);
	if (error)
		return;
	assert_int_equal(out, id);
	expected.objects[id] = (struct object){.kind = HWPT, .ioas = table};
}

static void step_bind(struct world *world)
{
	size_t index = choose(DEVICES);
	unsigned id = lowest_free();
	uint32_t out;

	if (expected.ids[index]) {
		assert_int_equal(bind_cdev(world, cdevs[index], fd, &out), -EINVAL);
	} else if (id) {
		assert_int_equal(bind_cdev(world, cdevs[index], fd, &out), 0);
		assert_int_equal(out, id);
		expected.objects[id] = (struct object){.kind = DEVICE, .index = index};
		expected.ids[index] = id;
	}
}

static void detach_in_model(unsigned device)
{
	unsigned hwpt = expected.objects[device].attached;

	expected.objects[device].attached = 0;
	if (hwpt)
		drop_made(hwpt);
}

static void step_unbind(struct world *world)
{
	size_t index = choose(DEVICES);

	world_close(world, cdevs[index]);
	cdevs[index] = open_cdev(world, index);
	if (!expected.ids[index])
		return;
	detach_in_model(expected.ids[index]);
	expected.objects[expected.ids[index]] = (struct object){NONE};
	expected.ids[index] = 0;
}

static void step_detach(struct world *world)
{
	size_t index = choose(DEVICES);

	if (!expected.ids[index]) {
		assert_int_equal(detach_cdev(world, cdevs[index]), -EINVAL);
		return;
	}
	assert_int_equal(detach_cdev(world, cdevs[index]), 0);
	detach_in_model(expected.ids[index]);
}

/* What the devices of @index's group are attached to. */
static unsigned group_table(const struct world *world, size_t index)
{
	for (size_t i = 0; i < DEVICES; i++)
		if (world->devices[i].group == world->devices[index].group && expected.ids[i] &&
		    expected.objects[expected.ids[i]].attached)
			return expected.objects[expected.ids[i]].attached;
	return 0;
}

static void attach_in_model(const struct world *world, size_t index, unsigned hwpt)
{
	unsigned device = expected.ids[index], old = expected.objects[device].attached;

	if (!old) {
		expected.objects[device].attached = hwpt;
		return;
	}
	for (size_t i = 0; i < DEVICES; i++)
		if (world->devices[i].group == world->devices[index].group && expected.ids[i] &&
		    expected.objects[expected.ids[i]].attached)
			expected.objects[expected.ids[i]].attached = hwpt;
	if (old != hwpt)
		drop_made(old);
}

static void step_attach(struct world *world)
{
	size_t index = choose(DEVICES);
	unsigned table = choose(IDS + 2), hwpt = 0, makes = 0, other;
	uint32_t out = table;
	long error = 0;

	if (!expected.ids[index])
		return;
	other = group_table(world, index);
	if (kind_of(table) == NONE) {
		error = -ENOENT;
	} else if (kind_of(table) == DEVICE) {
		error = -EINVAL;
	} else {
		hwpt = kind_of(table) == HWPT ? table : expected.objects[table].made;
		if (!hwpt)
			hwpt = makes = lowest_free();
		if (!hwpt)
			return;
		/* The first attachment of a device goes where its group is. */
		if (!expected.objects[expected.ids[index]].attached && other && other != hwpt)
			error = -EINVAL;
	}
	assert_int_equal(attach_cdev(world, cdevs[index], &out), error);
	if (error)
		return;
	assert_int_equal(out, hwpt);
	if (makes) {
		expected.objects[makes] =
			(struct object){.kind = HWPT, .ioas = table, .is_made = true};
		expected.objects[table].made = makes;
	}
	attach_in_model(world, index, hwpt);
}

static void step_map(struct world *world)
{
	unsigned id = choose(IDS + 2), page = choose(PAGES);
	uint64_t size = PAGE, iova = FIRST_IOVA + page * PAGE;
	bool maps = choose(2);
	long error = 0;

	if (kind_of(id) != IOAS)
		error = -ENOENT;
	else if (maps == expected.objects[id].mapped[page])
		error = maps ? -EEXIST : -ENOENT;
	if (maps)
		assert_int_equal(ioas_map_fixed(world, fd, id, memory + page * PAGE, PAGE, iova),
				 error);
	else
		assert_int_equal(ioas_unmap(world, fd, id, iova, &size), error);
	if (!error)
		expected.objects[id].mapped[page] = maps;
}

/* A device reads what is mapped where it is attached, and nothing else. */
static void check_dma(struct world *world)
{
	size_t index = choose(DEVICES);
	unsigned page = choose(PAGES), device = expected.ids[index], hwpt;
	char found = 0;
	bool reaches;

	if (!device)
		return;
	hwpt = expected.objects[device].attached;
	reaches = hwpt && expected.objects[expected.objects[hwpt].ioas].mapped[page];
	assert_int_equal(dma_read(world, index, FIRST_IOVA + page * PAGE, &found, 1) == 0, reaches);
	if (reaches)
		assert_int_equal(found, memory[page * PAGE]);
}

static void objects_are_as_in_the_model(void **state)
{
	static void (*const steps[])(struct world * world) = {
		step_alloc,  step_destroy, step_hwpt,	step_bind, step_unbind,
		step_attach, step_attach,  step_detach, step_map,  step_map,
	};
	const char *seed = getenv("UVFIO_TEST_SEED");
	struct world *world = *state;

	state_of_random = seed ? strtoull(seed, NULL, 0) : (uint64_t)getpid() << 20 | 1;
	print_message("seed %llu\n", (unsigned long long)state_of_random);
	for (size_t i = 0; i < PAGES; i++)
		memory[i * PAGE] = (char)('a' + i);
	fd = world_open_iommufd(world);
	for (size_t i = 0; i < DEVICES; i++)
		cdevs[i] = open_cdev(world, i);
	for (unsigned i = 0; i < STEPS; i++) {
		steps[choose(sizeof(steps) / sizeof(steps[0]))](world);
		check_dma(world);
	}
	for (size_t i = 0; i < DEVICES; i++)
		world_close(world, cdevs[i]);
	world_close(world, fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(objects_are_as_in_the_model, world_setup,
						world_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
