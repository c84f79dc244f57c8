/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All orders in which a device, its timer thread and a driver can do what the protocol of changing
 * areas lets them (uvfio/remap.h), on the real functions, step by step: breadth first over the
 * states that differ, each reached by doing all steps to it again on a new device. In each state:
 *
 *   no missed write  while the device looks at calls only, a driver that follows has nothing mapped
 *   no lost change   a driver with nothing to do knows all, and will hear of the next
 *   no deadlock      if the driver follows on, what waits ends well
 *
 * tests/model has the same for spin, of the protocol rather than of its code.
 */
#include "remap_rig.h"

#include <poll.h>

#define RUNNING	 VFIO_DEVICE_STATE_RUNNING
#define PRE_COPY VFIO_DEVICE_STATE_PRE_COPY

#ifdef __SANITIZE_THREAD__
#define SAVES 1 /* one thread, and a sanitizer for more: a minute would be for nothing */
#else
#define SAVES 2
#endif
#define OTHERS 2
#define TAKES  2  /* the model takes the area itself, and gives it back */
#define AREA   2u /* the one that goes: its bit of rig_areas() */
#define PLACE  (3 * PAGE)

#define MAX_STATES (1u << 18)

enum action {
	/* The device's. */
	SAVE,
	GO_BACK,
	RESET,
	CHANGE_OTHER,
	TAKE_AREA,
	LOOK,
	/* The driver's. */
	MAP,
	CLAIM,
	STEP, /* on with what it does to follow */
	ACTIONS,
};

/* What a driver does wrong, or what is made of the core. */
enum error {
	NONE,
	CLEAR_AT_UNMASK, /* the flag, rather than when it is read */
	ACKNOWLEDGE_UNREAD,
	INFO_FIRST,
	UNMASK_FIRST,
	CLAIM_LATE,
	NEVER_UNMAP,
};

struct variant {
	bool known; /* what is mapped is told; else it was given out */
	enum error error;
	bool takes; /* the model does, itself; and saves once */
};

enum step { IDLE, FLAG, INFO, DROP, UNMASK };

struct world {
	const struct variant *variant;
	struct rig *rig;
	struct region_changes *changes;
	unsigned saves, others, takes;
	bool took;	/* the model, and hasn't given it back */
	unsigned steps; /* done of those below */
	bool changed, there, may, mapped, claimed;
};

/* What makes states differ. */
struct key {
	uint8_t saves, others, takes, took, steps;
	uint8_t changed, there, may, mapped, claimed, event, masked, asserted;
	uint8_t unread, unacknowledged;
	uint8_t state, waits, model_waits, taken, ended, result, saving, settled, list, wanted;
};

static const enum step orders[][4] = {
	[NONE] = {FLAG, INFO, DROP, UNMASK},
	[CLEAR_AT_UNMASK] = {FLAG, INFO, DROP, UNMASK},
	[ACKNOWLEDGE_UNREAD] = {FLAG, INFO, DROP, UNMASK},
	[INFO_FIRST] = {INFO, FLAG, DROP, UNMASK},
	[UNMASK_FIRST] = {FLAG, INFO, UNMASK, DROP},
	[CLAIM_LATE] = {FLAG, INFO, DROP, UNMASK},
	[NEVER_UNMAP] = {FLAG, INFO, DROP, UNMASK},
};

static const struct irq_vector *vector(const struct world *world)
{
	return &world->rig->dev->irqs[world->rig->irq]->vectors[0];
}

static bool has_event(const struct world *world)
{
	struct pollfd fd = {.fd = world->rig->eventfd, .events = POLLIN};

	return poll(&fd, 1, 0) == 1;
}

/* ---- The driver ---- */

static void take_flag(struct world *world)
{
	if (world->variant->error == CLEAR_AT_UNMASK)
		world->changed = world->changes->generation != world->changes->read;
	else
		world->changed = uvf_region_take_changes(world->rig->dev, REGION);
	if (world->variant->error == INFO_FIRST && world->changed)
		world->may = world->there;
}

static void get_info(struct world *world)
{
	world->there = rig_areas(world->rig) & AREA;
	if (world->changed)
		world->may = world->there;
}

static void drop(struct world *world)
{
	if (world->may || !world->mapped || world->variant->error == NEVER_UNMAP)
		return;
	world->mapped = false;
	if (world->variant->known && world->claimed) {
		world->claimed = false;
		assert_int_equal(uvf_region_unmapped(world->rig->dev, REGION, PLACE, PAGE), 0);
	}
}

static void unmask(struct world *world)
{
	if (world->variant->error == CLEAR_AT_UNMASK)
		uvf_region_take_changes(world->rig->dev, REGION);
	assert_int_equal(rig_unmask(world->rig), 0);
	if (world->variant->error == ACKNOWLEDGE_UNREAD)
		world->changes->acknowledged = world->changes->generation;
}

static bool do_step(struct world *world)
{
	static void (*const steps[])(struct world *) = {
		[FLAG] = take_flag, [INFO] = get_info, [DROP] = drop, [UNMASK] = unmask};

	if (!world->steps) {
		if (!has_event(world))
			return false;
		rig_fired(world->rig);
		world->steps = 1;
		world->changed = world->there = false;
		return true;
	}
	steps[orders[world->variant->error][world->steps - 1]](world);
	world->steps = (world->steps + 1) % 5;
	return true;
}

static bool claim(struct world *world)
{
	return !uvf_region_mapped(world->rig->dev, REGION, PLACE, PAGE,
				  world->variant->known ? UVF_MAPPED_KNOWN : UVF_MAPPED_UNKNOWN);
}

/* As far as it knows it may: what was given out needs nobody's leave. */
static bool map(struct world *world)
{
	if (world->mapped || !world->may || world->steps)
		return false;
	if (world->variant->error != CLAIM_LATE && !world->claimed) {
		if (!claim(world))
			return false;
		world->claimed = true;
	}
	world->mapped = true;
	return true;
}

/* ---- What can be done ---- */

static bool is_away(const struct world *world)
{
	return world->rig->dev->transition || uvf_migration_state(world->rig->dev) != RUNNING;
}

static bool act(struct world *world, enum action action)
{
	struct rig *rig = world->rig;

	switch (action) {
	case SAVE:
		if (is_away(world) || world->saves == (world->variant->takes ? 1 : SAVES))
			return false;
		world->saves++;
		rig->done_result = 0;
		rig_start(rig, PRE_COPY);
		return true;
	case GO_BACK:
		return is_away(world) && !uvf_migration_set_state(rig->dev, RUNNING);
	case RESET:
		return is_away(world) && !uvf_device_reset(rig->dev, UVF_RESET_DEVICE);
	case CHANGE_OTHER:
		if (world->others == (world->variant->takes ? 1 : OTHERS))
			return false;
		rig_set_areas(rig, ++world->others & 1 ? 14 : 15);
		world->took = false;
		return true;
	case TAKE_AREA:
		if (!world->variant->takes || world->takes == TAKES)
			return false;
		world->took = ++world->takes & 1;
		rig_set_areas(rig, world->took ? 15 & ~AREA : 15);
		return true;
	case LOOK:
		if (!rig->dev->remap->waiting && !rig->dev->finished)
			return false;
		uvf_remap_work(rig->dev, 0);
		return true;
	case MAP:
		return map(world);
	case CLAIM:
		if (world->variant->error != CLAIM_LATE || !world->mapped || world->claimed)
			return false;
		world->claimed = claim(world);
		return world->claimed;
	case STEP:
		return do_step(world);
	default:
		return false;
	}
}

static void world_new(struct world *world, const struct variant *variant)
{
	*world = (struct world){.variant = variant, .rig = rig_new(), .may = true};
	world->changes = uvf_device_region(world->rig->dev, REGION)->changes;
	world->rig->dev->remap->by_hand = true;
	assert_int_equal(uvf_device_open(world->rig->dev), 0);
	rig_follow(world->rig);
}

static struct key key_of(const struct world *world)
{
	const struct uvf_device *dev = world->rig->dev;

	return (struct key){
		.saves = (uint8_t)world->saves,
		.others = (uint8_t)world->others,
		.takes = (uint8_t)world->takes,
		.took = world->took,
		.steps = (uint8_t)world->steps,
		.changed = world->changed,
		.there = world->there,
		.may = world->may,
		.mapped = world->mapped,
		.claimed = world->claimed,
		.event = has_event(world),
		.masked = vector(world)->masked,
		.asserted = vector(world)->asserted,
		.unread = (uint8_t)(world->changes->generation - world->changes->read),
		.unacknowledged =
			(uint8_t)(world->changes->generation - world->changes->acknowledged),
		.state = (uint8_t)uvf_migration_state(world->rig->dev),
		.waits = dev->transition != NULL,
		.model_waits = world->changes->waits,
		.taken = dev->remap->saving && world->changes->taken,
		.ended = dev->finished != NULL,
		.result = (uint8_t)-world->rig->done_result,
		.saving = dev->remap->saving,
		.settled = dev->remap->settled,
		.list = (uint8_t)atomic_load(&world->changes->current)->number,
		.wanted = (uint8_t)world->changes->wanted->number,
	};
}

/* ---- What must be so ---- */

/* The driver follows on and nothing else happens: what waits ends, and well. */
static const char *follow_on(struct world *world)
{
	bool waits = world->rig->dev->transition, going_on = true;

	world->rig->done_result = 0;
	for (unsigned i = 0; i < 100 && going_on; i++) {
		going_on = act(world, STEP);
		going_on |= (world->rig->dev->finished || world->rig->dev->remap->waiting) &&
			    act(world, LOOK);
		if (!world->rig->dev->transition && !has_event(world) && !world->steps)
			break;
	}
	if (world->rig->dev->transition || world->steps)
		return "a deadlock: a driver follows in vain";
	uvf_remap_work(world->rig->dev, 0);
	if ((waits && world->rig->done_result) || strstr(world->rig->calls, "settled3:-"))
		return "a driver that follows is refused";
	if (world->changes->waits)
		return "a deadlock: the model waits in vain";
	return NULL;
}

static const char *judge(const struct world *world)
{
	const struct remap *remap = world->rig->dev->remap;
	bool relies = (remap->saving && remap->settled) || (world->took && !world->changes->waits);

	if (relies && world->mapped)
		return "a missed write: the device relies on calls, and the area is mapped";
	if (relies && rig_areas(world->rig) & AREA)
		return "a missed write: an access by call would go to memory";
	if (!world->steps && !has_event(world)) {
		if (world->changes->generation != world->changes->read)
			return "a lost change: the driver is not told";
		if (world->may != (bool)(rig_areas(world->rig) & AREA))
			return "a lost change: the driver knows something else";
		if (vector(world)->masked)
			return "a lost change: the next is not told";
	}
	return NULL;
}

/* ---- Exploration ---- */

struct node {
	struct key key;
	uint32_t parent;
	uint8_t action;
};

struct exploration {
	struct node *nodes;
	uint32_t count;
	uint32_t *table; /* of nodes, plus 1, by key */
};

static void world_reach(struct world *world, const struct exploration *exploration, uint32_t at,
			const struct variant *variant)
{
	uint8_t path[256];
	unsigned length = 0;

	for (; at; at = exploration->nodes[at].parent)
		path[length++] = exploration->nodes[at].action;
	world_new(world, variant);
	while (length)
		assert_true(act(world, path[--length]));
}

/* Whether @key is new; it is then known. */
static bool add(struct exploration *exploration, const struct key *key, uint32_t parent,
		uint8_t action)
{
	const uint8_t *bytes = (const uint8_t *)key;
	uint32_t hash = 2166136261u, slot;

	for (size_t i = 0; i < sizeof(*key); i++)
		hash = (hash ^ bytes[i]) * 16777619u;
	for (slot = hash % (2 * MAX_STATES); exploration->table[slot];
	     slot = (slot + 1) % (2 * MAX_STATES))
		if (!memcmp(&exploration->nodes[exploration->table[slot] - 1].key, key,
			    sizeof(*key)))
			return false;
	assert_true(exploration->count < MAX_STATES);
	exploration->nodes[exploration->count] = (struct node){*key, parent, action};
	exploration->table[slot] = ++exploration->count;
	return true;
}

/* One action from one state: what is wrong there, or NULL. */
static const char *try(struct exploration *exploration, uint32_t from, uint8_t action,
		       const struct variant *variant)
{
	const char *wrong = NULL;
	struct world world;
	struct key key;

	world_reach(&world, exploration, from, variant);
	if (act(&world, action)) {
		key = key_of(&world);
		if (add(exploration, &key, from, action)) {
			wrong = judge(&world);
			if (!wrong)
				wrong = follow_on(&world);
		}
	}
	rig_free(world.rig);
	return wrong;
}

static const char *explore(const struct variant *variant, uint32_t *states)
{
	struct exploration exploration = {
		.nodes = calloc(MAX_STATES, sizeof(*exploration.nodes)),
		.table = calloc(2 * MAX_STATES, sizeof(*exploration.table)),
	};
	const char *wrong = NULL;
	struct world world;
	struct key key;

	assert_non_null(exploration.nodes);
	assert_non_null(exploration.table);
	world_new(&world, variant);
	key = key_of(&world);
	rig_free(world.rig);
	add(&exploration, &key, 0, ACTIONS);
	for (uint32_t from = 0; from < exploration.count && !wrong; from++)
		for (uint8_t action = 0; action < ACTIONS && !wrong; action++)
			wrong = try(&exploration, from, action, variant);
	*states = exploration.count;
	free(exploration.nodes);
	free(exploration.table);
	return wrong;
}

static void expect_nothing(bool known, bool takes)
{
	const struct variant variant = {.known = known, .error = NONE, .takes = takes};
	uint32_t states;
	const char *wrong = explore(&variant, &states);

	if (wrong)
		fail_msg("%s", wrong);
	print_message("%u states\n", states);
	/* It has not stopped at the first wall. */
	assert_true(states > 500);
}

static void what_is_mapped_is_known(void **state)
{
	expect_nothing(true, false);
}

static void what_is_mapped_was_given_out(void **state)
{
	expect_nothing(false, false);
}

static void a_model_takes_what_is_known(void **state)
{
	expect_nothing(true, true);
}

static void a_model_takes_what_was_given_out(void **state)
{
	expect_nothing(false, true);
}

/* Each is found, as what it is. */
static void errors_are_found(void **state)
{
	static const struct {
		struct variant variant;
		const char *what;
	} rows[] = {
		{{true, CLEAR_AT_UNMASK, false}, "a driver that follows is refused"},
		{{false, CLEAR_AT_UNMASK, false}, "a lost change"},
		{{false, ACKNOWLEDGE_UNREAD, false}, "a missed write"},
		{{true, INFO_FIRST, false}, "a driver that follows is refused"},
		{{false, INFO_FIRST, false}, "a lost change"},
		{{true, UNMASK_FIRST, false}, "a driver that follows is refused"},
		{{false, UNMASK_FIRST, false}, "a missed write"},
		{{true, CLAIM_LATE, false}, "a missed write"},
		{{true, NEVER_UNMAP, false}, "a driver that follows is refused"},
		{{false, NEVER_UNMAP, false}, "a missed write"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint32_t states;
		const char *wrong = explore(&rows[i].variant, &states);

		if (!wrong || strncmp(wrong, rows[i].what, strlen(rows[i].what)))
			fail_msg("row %zu: %s", i, wrong ? wrong : "nothing");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_mapped_is_known),
		cmocka_unit_test(what_is_mapped_was_given_out),
		cmocka_unit_test(a_model_takes_what_is_known),
		cmocka_unit_test(a_model_takes_what_was_given_out),
		cmocka_unit_test(errors_are_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
