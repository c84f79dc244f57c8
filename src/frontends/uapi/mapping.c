/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An mmap() of a device file. The program gets duplicates of the files that it takes, its thread is
 * stopped and made to map them and to close them again. All that is not in an area is one mapping
 * of the trap file, over which the areas are mapped; where nothing traps, and the parts are
 * several, a mapping of nothing holds the place.
 *
 * The handler's thread makes the plan; the tracer's makes it anew if areas have changed, so that
 * what is being mapped is no older than a revocation that comes after it, and carries it out, a
 * step at each stop of the thread, so that many threads can be mapping at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "frontends/uapi/device.h"
#include "frontends/uapi/notify.h"
#include "frontends/uapi/tracer_private.h"

#define ANONYMOUS UINT64_MAX

/* ---- The plan ---- */

static void free_plan(struct uapi_mapping *mapping)
{
	for (size_t i = 0; i < mapping->file_count; i++)
		if (mapping->files[i].ours >= 0)
			close(mapping->files[i].ours);
	free(mapping->files);
	free(mapping->pieces);
	mapping->files = NULL;
	mapping->pieces = NULL;
	mapping->file_count = mapping->piece_count = 0;
}

static void free_mapping(struct uapi_mapping *mapping)
{
	free_plan(mapping);
	free(mapping);
}

static int add_file(struct uapi_mapping *mapping, int ours)
{
	if (ours < 0)
		return ours;
	mapping->files[mapping->file_count] = (struct uapi_mapping_file){ours, -1};
	mapping->file_count++;
	return 0;
}

/* The part of an area that is in the range. It is joined to the piece before where that goes on. */
static int add_area(struct uapi_mapping *mapping, const struct uvf_area *areas, size_t i,
		    uint64_t first, uint64_t end)
{
	uint64_t delta = first - mapping->offset;
	uint64_t offset = areas[i].fd_offset + (first - areas[i].offset);
	struct uapi_piece *before =
		mapping->piece_count ? &mapping->pieces[mapping->piece_count - 1] : NULL;

	if (before && areas[i - 1].fd == areas[i].fd && before->delta + before->size == delta &&
	    before->offset + before->size == offset) {
		before->size += end - first;
		return 0;
	}
	mapping->pieces[mapping->piece_count++] = (struct uapi_piece){
		.delta = delta,
		.size = end - first,
		.file = (unsigned)mapping->file_count,
		.offset = offset,
	};
	if (before && areas[i - 1].fd == areas[i].fd) {
		mapping->pieces[mapping->piece_count - 1].file = before->file;
		return 0;
	}
	return add_file(mapping, fcntl(areas[i].fd, F_DUPFD_CLOEXEC, 0));
}

/* So that what is mapped of them can be found. */
static int remember_areas(struct uapi_mapping *mapping, const struct uvf_region_info *info)
{
	int ret = 0;

	mapping->areas = info->areas;
	mapping->changes = info->areas_change;
	for (size_t i = 0; i < info->area_count && mapping->changes && !ret; i++)
		ret = uapi_area_file_add(mapping->device->run->tracer, mapping->device,
					 mapping->index, &info->areas[i]);
	return ret;
}

static int plan(struct uapi_mapping *mapping)
{
	uint64_t begin = mapping->offset, end = begin + mapping->map.size, covered = 0;
	struct uapi_device *device = mapping->device;
	struct uvf_region_info info;
	int ret = uvf_region_get_info(device->dev, mapping->index, &info);

	if (!ret)
		ret = remember_areas(mapping, &info);
	if (ret < 0)
		return ret;
	mapping->files = calloc(info.area_count + 1, sizeof(*mapping->files));
	mapping->pieces = calloc(info.area_count + 1, sizeof(*mapping->pieces));
	if (!mapping->files || !mapping->pieces)
		return -ENOMEM;
	for (size_t i = 0; i < info.area_count; i++) {
		uint64_t area_end = info.areas[i].offset + info.areas[i].size;

		if (area_end > begin && info.areas[i].offset < end)
			covered += (area_end < end ? area_end : end) -
				   (info.areas[i].offset > begin ? info.areas[i].offset : begin);
	}
	mapping->traps = covered < mapping->map.size;
	if (mapping->traps && !mapping->may_trap)
		return -EINVAL;
	if (mapping->traps)
		ret = add_file(mapping,
			       uapi_trap_file_get(device->run->tracer, device, mapping->index));
	for (size_t i = 0; i < info.area_count && ret >= 0; i++) {
		uint64_t area_end = info.areas[i].offset + info.areas[i].size;

		if (area_end > begin && info.areas[i].offset < end)
			ret = add_area(mapping, info.areas, i,
				       info.areas[i].offset > begin ? info.areas[i].offset : begin,
				       area_end < end ? area_end : end);
	}
	return ret;
}

/* The plan as it is made now: areas may have changed since the program's call was handled. */
static int plan_again(struct uapi_mapping *mapping)
{
	struct uvf_region_info info;

	if (!mapping->changes ||
	    (!uvf_region_get_info(mapping->device->dev, mapping->index, &info) &&
	     info.areas == mapping->areas))
		return 0;
	free_plan(mapping);
	return plan(mapping);
}

int64_t uapi_tracer_map(struct uapi_call *call, struct uapi_device *device, uint32_t index,
			uint64_t region_offset, const struct uapi_mmap *map, bool may_trap)
{
	struct uapi_tracer *tracer = device->run->tracer;
	struct uapi_mapping *mapping;
	int ret;

	if (!tracer)
		return -ENODEV;
	mapping = calloc(1, sizeof(*mapping));
	if (!mapping)
		return -ENOMEM;
	mapping->call = *call;
	mapping->map = *map;
	mapping->device = device;
	mapping->index = index;
	mapping->may_trap = may_trap;
	mapping->offset = region_offset;
	ret = plan(mapping);
	if (ret < 0) {
		free_mapping(mapping);
		return ret;
	}
	uapi_call_process(&mapping->call);
	pthread_mutex_lock(&tracer->lock);
	mapping->next = tracer->requests;
	tracer->requests = mapping;
	uapi_bell_ring(&tracer->bell);
	pthread_mutex_unlock(&tracer->lock);
	return UAPI_TAKEN;
}

bool uapi_tracer_is_mapping(struct uvf_run *run, pid_t thread)
{
	struct uapi_tracer *tracer = run->tracer;
	struct uapi_mapping *mapping = NULL;
	bool is_mapping;

	if (!tracer)
		return false;
	pthread_mutex_lock(&tracer->lock);
	for (mapping = tracer->mappings; mapping; mapping = mapping->next)
		if (mapping->call.thread == thread && mapping->injecting)
			break;
	is_mapping = mapping || tracer->revocation.placing_thread == thread;
	pthread_mutex_unlock(&tracer->lock);
	return is_mapping;
}

/* ---- Carried out ---- */

static void set_injecting(struct uapi_tracer *tracer, struct uapi_mapping *mapping, bool injecting)
{
	pthread_mutex_lock(&tracer->lock);
	mapping->injecting = injecting;
	pthread_mutex_unlock(&tracer->lock);
}

static void unlink_mapping(struct uapi_tracer *tracer, struct uapi_mapping *mapping)
{
	pthread_mutex_lock(&tracer->lock);
	for (struct uapi_mapping **link = &tracer->mappings; *link; link = &(*link)->next)
		if (*link == mapping) {
			*link = mapping->next;
			break;
		}
	pthread_mutex_unlock(&tracer->lock);
}

/* The call's answer, for traces and counts too: the thread itself has it already, or is dead. */
static void answer(struct uapi_tracer *tracer, struct uapi_mapping *mapping, int64_t result)
{
	unlink_mapping(tracer, mapping);
	uapi_known_end_mapping(mapping->device);
	uapi_call_answer(&mapping->call, result);
	free_mapping(mapping);
}

void uapi_mapping_abandon(struct uapi_tracer *tracer, struct uapi_mapping *mapping)
{
	answer(tracer, mapping, -EINTR);
}

static int place_files(struct uapi_mapping *mapping)
{
	for (size_t i = 0; i < mapping->file_count; i++) {
		int number = uapi_call_place_fd(&mapping->call, mapping->files[i].ours, O_CLOEXEC);

		if (number < 0)
			return number;
		mapping->files[i].theirs = number;
	}
	return 0;
}

/*
 * Traces the thread that calls. One that was killed meanwhile may have left its number to another,
 * which is let go again.
 */
static int seize_caller(struct uapi_tracer *tracer, struct uapi_call *call,
			struct uapi_tracee **traceep)
{
	bool known = uapi_tracee_find(tracer, call->thread);
	int ret = uapi_call_is_waiting(call) ? 0 : -ESRCH;

	if (!ret)
		ret = uapi_tracee_seize(tracer, call->thread, call->process, traceep);
	if (!ret && !known && !uapi_call_is_waiting(call)) {
		uapi_tracee_release(tracer, *traceep);
		ret = -ESRCH;
	}
	return ret;
}

/* A process that isn't found again where its mappings are to be taken away has to be followed. */
static bool has_to_be_kept(const struct uapi_tracer *tracer, const struct uapi_mapping *mapping)
{
	return mapping->traps || (mapping->changes && !tracer->run->mount_namespace &&
				  uapi_device_revokes(mapping->device));
}

/* The thread waits for our answer; when it has it, it stops instead of going on. */
static void begin(struct uapi_tracer *tracer, struct uapi_tracee *tracee)
{
	struct uapi_mapping *mapping = tracee->mapping;
	int ret = plan_again(mapping);

	if (ret >= 0 && has_to_be_kept(tracer, mapping))
		ret = uapi_tracee_keep(tracer, tracee->process);
	mapping->waits = ret == -EINPROGRESS;
	if (mapping->waits)
		return;
	mapping->result = ret < 0 ? ret : place_files(mapping);
	ptrace(PTRACE_INTERRUPT, mapping->call.thread, 0, 0);
	uapi_notifier_send(mapping->call.notifier, mapping->call.id, 0);
}

/* The thread of a mapping that need not wait any longer, or NULL. */
static struct uapi_tracee *find_settled(struct uapi_tracer *tracer)
{
	for (const struct uapi_mapping *mapping = tracer->mappings; mapping;
	     mapping = mapping->next) {
		struct uapi_tracee *tracee =
			mapping->waits ? uapi_tracee_find(tracer, mapping->call.thread) : NULL;

		if (tracee && tracee->mapping == mapping && !tracee->process->unsettled)
			return tracee;
	}
	return NULL;
}

void uapi_mapping_resume(struct uapi_tracer *tracer)
{
	struct uapi_tracee *tracee;

	while ((tracee = find_settled(tracer)))
		begin(tracer, tracee);
}

void uapi_mapping_start(struct uapi_tracer *tracer, struct uapi_mapping *mapping)
{
	struct uapi_call *call = &mapping->call;
	struct uapi_tracee *tracee;
	int ret = seize_caller(tracer, call, &tracee);

	if (ret >= 0 && tracee->mapping)
		ret = -EAGAIN; /* of a call that was interrupted */
	if (ret < 0) {
		answer(tracer, mapping, ret == -ESRCH ? -EINTR : ret);
		return;
	}
	tracee->mapping = mapping;
	begin(tracer, tracee);
}

static int call_mmap(struct uapi_mapping *mapping, uint64_t address, uint64_t size, int prot,
		     int flags, uint64_t file, uint64_t offset)
{
	const uint64_t arguments[6] = {
		address,
		size,
		(uint64_t)prot,
		(uint64_t)flags,
		file == ANONYMOUS ? UINT64_MAX : (uint64_t)mapping->files[file].theirs,
		offset,
	};

	return uapi_inject_call(&mapping->injection, SYS_mmap, arguments);
}

/* The whole range, where the program wants it. */
static int map_base(struct uapi_mapping *mapping)
{
	const struct uapi_mmap *map = &mapping->map;
	const int placement = MAP_FIXED | MAP_FIXED_NOREPLACE | MAP_32BIT;

	if (mapping->traps)
		return call_mmap(mapping, map->address, map->size, map->prot,
				 map->flags & ~(MAP_POPULATE | MAP_LOCKED), 0, mapping->offset);
	if (mapping->piece_count == 1)
		return call_mmap(mapping, map->address, map->size, map->prot, map->flags,
				 mapping->pieces[0].file, mapping->pieces[0].offset);
	return call_mmap(mapping, map->address, map->size, PROT_NONE,
			 (map->flags & placement) | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			 ANONYMOUS, 0);
}

static int map_piece(struct uapi_mapping *mapping, const struct uapi_piece *piece)
{
	const int placement = MAP_FIXED_NOREPLACE | MAP_32BIT;

	return call_mmap(mapping, mapping->address + piece->delta, piece->size, mapping->map.prot,
			 (mapping->map.flags & ~placement) | MAP_FIXED, piece->file, piece->offset);
}

static void next_stage(struct uapi_mapping *mapping, int64_t result)
{
	switch (mapping->stage) {
	case MAPPING_BASE:
		mapping->stage = result < 0 ? MAPPING_CLOSE : MAPPING_PIECES;
		mapping->result = result;
		mapping->address = (uint64_t)result;
		/* A piece that is everything is mapped by now. */
		if (!mapping->traps && mapping->piece_count == 1)
			mapping->next_piece = 1;
		break;
	case MAPPING_PIECES:
		if (result < 0) {
			mapping->result = result;
			mapping->stage = MAPPING_UNDO;
		}
		break;
	case MAPPING_UNDO:
		mapping->stage = MAPPING_CLOSE;
		break;
	case MAPPING_CLOSE:
		break;
	}
}

/* Begins the next call. Returns 1, 0 when there is none, or -ESRCH. */
static int next_call(struct uapi_mapping *mapping)
{
	uint64_t arguments[6] = {0};
	int ret;

	if (mapping->stage == MAPPING_BASE) {
		ret = map_base(mapping);
		return ret < 0 ? ret : 1;
	}
	if (mapping->stage == MAPPING_PIECES) {
		if (mapping->next_piece < mapping->piece_count) {
			ret = map_piece(mapping, &mapping->pieces[mapping->next_piece++]);
			return ret < 0 ? ret : 1;
		}
		mapping->stage = MAPPING_CLOSE;
	}
	if (mapping->stage == MAPPING_UNDO) {
		arguments[0] = mapping->address;
		arguments[1] = mapping->map.size;
		ret = uapi_inject_call(&mapping->injection, SYS_munmap, arguments);
		return ret < 0 ? ret : 1;
	}
	while (mapping->next_file < mapping->file_count) {
		int theirs = mapping->files[mapping->next_file++].theirs;

		if (theirs < 0)
			continue;
		arguments[0] = (uint64_t)theirs;
		ret = uapi_inject_call(&mapping->injection, SYS_close, arguments);
		return ret < 0 ? ret : 1;
	}
	return 0;
}

/* Everything is done: the thread gets its result and goes on. */
static void finish(struct uapi_tracer *tracer, struct uapi_tracee *tracee)
{
	struct uapi_mapping *mapping = tracee->mapping;

	uapi_inject_end(&mapping->injection, mapping->result);
	set_injecting(tracer, mapping, false);
	tracee->mapping = NULL;
	answer(tracer, mapping, mapping->result);
	uapi_tracee_continue(tracer, tracee, 0);
}

/* The thread was elsewhere: a signal had ended its call, which it will make again. */
static void give_up(struct uapi_tracer *tracer, struct uapi_tracee *tracee)
{
	struct uapi_mapping *mapping = tracee->mapping;

	tracee->mapping = NULL;
	answer(tracer, mapping, -EINTR);
	uapi_tracee_continue(tracer, tracee, 0);
}

void uapi_mapping_step(struct uapi_tracer *tracer, struct uapi_tracee *tracee, int status)
{
	struct uapi_mapping *mapping = tracee->mapping;
	int64_t result;
	int ret;

	if (!mapping->injecting) {
		ret = uapi_inject_begin(&mapping->injection, tracee->thread,
					mapping->call.instruction_pointer);
		if (ret == -EAGAIN) {
			give_up(tracer, tracee);
			return;
		}
		if (ret < 0)
			return; /* killed: its end comes next */
		mapping->injection.group_stop = status >> 8 != (SIGTRAP | PTRACE_EVENT_STOP << 8);
		set_injecting(tracer, mapping, true);
		mapping->stage = mapping->result < 0 ? MAPPING_CLOSE : MAPPING_BASE;
	} else {
		ret = uapi_inject_step(&mapping->injection, status, &result);
		if (ret <= 0)
			return;
		next_stage(mapping, result);
	}
	if (next_call(mapping) == 0)
		finish(tracer, tracee);
}
