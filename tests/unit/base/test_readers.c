/* SPDX-License-Identifier: BSD-3-Clause */
/* Readers and who waits for them: an object that has been taken away is never looked at again. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/readers.h"

#define MANY (2 * UVF_READER_SLOTS) /* more threads than there are slots */

/* Plain members: ThreadSanitizer sees it if they are looked at and changed at once. */
struct object {
	uint64_t left, right;
};

struct scene {
	struct uvf_readers readers;
	_Atomic(struct object *) current;
	_Atomic(bool) stop;
	_Atomic(uint64_t) wrong;
	_Atomic(unsigned) begun;
	unsigned pause; /* in loops, between sections */
};

static void look(struct scene *scene)
{
	struct uvf_reading reading = uvf_readers_enter(&scene->readers);
	const struct object *object = atomic_load_explicit(&scene->current, memory_order_acquire);

	/* What was taken away is changed to be unequal. */
	for (unsigned i = 0; i < 4; i++)
		if (*(const volatile uint64_t *)&object->left !=
		    *(const volatile uint64_t *)&object->right)
			scene->wrong++;
	uvf_readers_exit(reading);
}

static void *look_all_the_time(void *opaque)
{
	struct scene *scene = opaque;

	look(scene);
	scene->begun++;
	while (!atomic_load_explicit(&scene->stop, memory_order_relaxed)) {
		look(scene);
		for (volatile unsigned i = 0; i < scene->pause; i++)
			;
	}
	return NULL;
}

static struct scene *new_scene(struct object *first)
{
	struct scene *scene = aligned_alloc(64, sizeof(*scene));

	assert_non_null(scene);
	*scene = (struct scene){0};
	uvf_readers_init(&scene->readers);
	*first = (struct object){1, 1};
	atomic_init(&scene->current, first);
	return scene;
}

/* Takes the current object away, waits, and spoils it. */
static void replace(struct scene *scene, struct object *objects, uint64_t i)
{
	struct object *old = &objects[i % 2], *new = &objects[(i + 1) % 2];
	struct uvf_grace grace = {0};

	*new = (struct object){i, i};
	atomic_store_explicit(&scene->current, new, memory_order_release);
	uvf_readers_wait(&scene->readers, &grace);
	*old = (struct object){i, ~i};
}

static void replaced(unsigned threads, unsigned pause, unsigned times)
{
	struct object objects[2];
	struct scene *scene = new_scene(&objects[0]);
	pthread_t thread[MANY];

	scene->pause = pause;
	for (unsigned i = 0; i < threads; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, look_all_the_time, scene), 0);
	for (uint64_t i = 0; i < times; i++)
		replace(scene, objects, i);
	while (scene->begun < threads)
		replace(scene, objects, times++);
	if (times & 1)
		replace(scene, objects, times);
	scene->stop = true;
	for (unsigned i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(scene->wrong, 0);
	assert_int_equal(scene->readers.crowded,
			 threads > UVF_READER_SLOTS || !scene->readers.has_barrier);
	free(scene);
}

static void one_busy(void **unused)
{
	replaced(1, 0, 20000);
}

/* Rarely inside: most waits need the barrier. */
static void some_idle(void **unused)
{
	replaced(3, 20000, 3000);
}

static void more_than_slots(void **unused)
{
	replaced(MANY, 100, 300);
}

/* Without the barrier, all are in the crowd. */
static void no_barrier(void **unused)
{
	struct object objects[2];
	struct scene *scene = new_scene(&objects[0]);
	pthread_t thread;

	scene->readers.has_barrier = false;
	assert_int_equal(pthread_create(&thread, NULL, look_all_the_time, scene), 0);
	for (uint64_t i = 0; i < 300 || !scene->begun; i++)
		replace(scene, objects, i);
	scene->stop = true;
	pthread_join(thread, NULL);
	assert_int_equal(scene->wrong, 0);
	assert_true(scene->readers.crowded);
	for (unsigned i = 0; i < UVF_READER_SLOTS; i++)
		assert_int_equal(scene->readers.slot[i].owner, 0);
	free(scene);
}

static void *look_once(void *opaque)
{
	look(opaque);
	return NULL;
}

/* Threads that have ended are not waited for; who waits may read itself. */
static void threads_that_end(void **unused)
{
	struct object objects[2];
	struct scene *scene = new_scene(&objects[0]);

	for (uint64_t i = 0; i < 200; i++) {
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, look_once, scene), 0);
		look(scene);
		replace(scene, objects, i);
		pthread_join(thread, NULL);
		look(scene);
	}
	assert_int_equal(scene->wrong, 0);
	free(scene);
}

struct held {
	struct scene *scene;
	_Atomic(bool) inside, leave, over;
};

static void *stay_inside(void *opaque)
{
	struct held *held = opaque;
	struct uvf_reading reading = uvf_readers_enter(&held->scene->readers);

	held->inside = true;
	while (!held->leave)
		;
	uvf_readers_exit(reading);
	return NULL;
}

static void *wait_for_readers(void *opaque)
{
	struct held *held = opaque;
	struct uvf_grace grace = {0};

	uvf_readers_wait(&held->scene->readers, &grace);
	held->over = true;
	return NULL;
}

static void *wait_inside_the_crowd(void *opaque)
{
	struct held *held = opaque;

	held->scene->readers.has_barrier = false;
	return stay_inside(held);
}

static void waited_for(void *(*reader)(void *))
{
	struct object objects[2];
	struct held held = {.scene = new_scene(&objects[0])};
	pthread_t inside, waiters[2];

	pthread_create(&inside, NULL, reader, &held);
	while (!held.inside)
		;
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&waiters[i], NULL, wait_for_readers, &held);
	for (volatile unsigned i = 0; i < 1000000; i++)
		;
	assert_false(held.over);
	held.leave = true;
	pthread_join(inside, NULL);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(waiters[i], NULL);
	assert_true(held.over);
	free(held.scene);
}

static void one_that_stays(void **unused)
{
	waited_for(stay_inside);
	waited_for(wait_inside_the_crowd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_busy),	    cmocka_unit_test(some_idle),
		cmocka_unit_test(more_than_slots),  cmocka_unit_test(no_barrier),
		cmocka_unit_test(threads_that_end), cmocka_unit_test(one_that_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
