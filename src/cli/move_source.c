/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The end of a move that gives a device away. The device works on during PRE_COPY; then it is
 * quiesced while its driver is still answered, the session is suspended, and the device stopped.
 * Whatever goes wrong before the other end has taken over, it all goes on here.
 */
#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <uvfio/device.h>

#include "base/clock.h"
#include "cli/move_link.h"
#include "cli/move_pace.h"

#define STATES_MAX 16

/* How often it is told how it goes, and how long a round that brought nothing new waits. */
#define TELL_NS	   100000000
#define ROUND_MS   20
#define SUSPEND_MS 10000
/* The other end loads the state in this time: storage can be slow to open. */
#define ADOPT_MS 30000
/* Storage that the other end had comes back in this time, or it is told that it didn't. */
#define BACK_MS 5000
/* How often it is asked for: until then, and from then on. */
#define BACK_SOON_MS 20
#define BACK_LATE_MS 1000
/* Without getting better for so long, it never will. */
#define STUCK_NS 5000000000
#define READ_MAX 65536

struct departure {
	struct move *move;
	struct pace pace;
	double max_downtime_ms;
	uint64_t begin, told, stopped; /* ns; stopped 0: not yet */
	uint64_t pre_copy_bytes, stop_copy_bytes, session_bytes;
	unsigned rounds;
	uint64_t remaining;
	double expected_ms, best_ms;
	uint64_t best_at;
	bool prepared, changed, offered; /* the session, the state; there is an offer */
	struct state_time {
		const char *name;
		uint64_t at;
	} states[STATES_MAX];
	size_t state_count;
	struct move_packet packet;
};

/* ---- What is told ---- */

/* Two processes look at the clock: one can be a little ahead of what the other has noted. */
static double ms_since(uint64_t then, uint64_t now)
{
	return now > then ? (double)(now - then) / 1e6 : 0;
}

static void add_number(struct json_object *object, const char *name, uint64_t value)
{
	json_object_object_add(object, name, json_object_new_int64((int64_t)value));
}

static void add_real(struct json_object *object, const char *name, double value)
{
	json_object_object_add(object, name, json_object_new_double(value));
}

static void tell(struct departure *departure, bool must)
{
	const struct state_time *state = &departure->states[departure->state_count - 1];
	struct json_object *event = json_object_new_object();
	uint64_t now = uvf_now_ns();

	json_object_object_add(event, "event", json_object_new_string("progress"));
	json_object_object_add(event, "state", json_object_new_string(state->name));
	add_real(event, "time_ms", ms_since(departure->begin, now));
	add_number(event, "round", departure->rounds);
	add_number(event, "bytes", departure->pre_copy_bytes + departure->stop_copy_bytes);
	add_number(event, "remaining", departure->remaining);
	add_real(event, "rate", pace_rate(&departure->pace));
	add_real(event, "dirty_rate", departure->pace.dirty_rate);
	add_real(event, "expected_downtime_ms", departure->expected_ms);
	departure->told = now;
	move_tell(departure->move, event, must);
}

static void enter(struct departure *departure, const char *name)
{
	if (departure->state_count < STATES_MAX)
		departure->states[departure->state_count++] =
			(struct state_time){name, uvf_now_ns()};
	tell(departure, true);
}

static struct json_object *states_of(const struct departure *departure, uint64_t end)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < departure->state_count; i++) {
		uint64_t from = departure->states[i].at;
		uint64_t to = i + 1 < departure->state_count ? departure->states[i + 1].at : end;
		struct json_object *row = json_object_new_object();

		json_object_object_add(row, "state",
				       json_object_new_string(departure->states[i].name));
		add_real(row, "from_ms", ms_since(departure->begin, from));
		add_real(row, "ms", ms_since(from, to));
		json_object_array_add(array, row);
	}
	return array;
}

static void tell_result(struct departure *departure, const struct move_done *done)
{
	struct json_object *answer = json_object_new_object();
	struct json_object *result = json_object_new_object();

	json_object_object_add(result, "device",
			       json_object_new_string(uvf_device_name(departure->move->dev)));
	add_real(result, "total_ms", ms_since(departure->begin, done->running));
	add_real(result, "downtime_ms", ms_since(departure->stopped, done->running));
	add_real(result, "expected_downtime_ms", departure->expected_ms);
	add_number(result, "pre_copy_bytes", departure->pre_copy_bytes);
	add_number(result, "stop_copy_bytes", departure->stop_copy_bytes);
	add_number(result, "session_bytes", departure->session_bytes);
	add_number(result, "rounds", departure->rounds);
	json_object_object_add(result, "states", states_of(departure, done->running));
	json_object_object_add(answer, "result", result);
	move_tell_last(departure->move, answer);
}

/* ---- The state ---- */

static int go(struct departure *departure, enum vfio_device_mig_state state, const char *name,
	      struct uvf_error *error)
{
	struct uvf_error room;
	int ret;

	move_forget(departure->move);
	departure->changed = true;
	ret = uvf_migration_set_state(departure->move->dev, state);
	if (!ret)
		enter(departure, name);
	else if (ret == -ENODEV)
		uvf_fail(error, ret, "the driver has gone");
	else
		uvf_fail(error, ret, "it can't go to %s: %s", name,
			 move_reason(departure->move, strerror(-ret), &room));
	return ret;
}

static int send_state(struct departure *departure, const void *bytes, size_t size,
		      struct uvf_error *error)
{
	uint64_t begin = uvf_now_ns();
	uint64_t delay = pace_delay(&departure->pace, size, begin);
	int ret = 0;

	/* A limit is kept on average; waits are whole milliseconds. */
	if (delay >= 1000000 && move_wait(departure->move, 0, (int)(delay / 1000000)) == -ECANCELED)
		return uvf_fail(error, -ECANCELED, "it was cancelled");
	ret = move_send(departure->move, MOVE_STATE, bytes, size, NULL, 0, error);
	if (!ret)
		pace_sent(&departure->pace, size, uvf_now_ns() - begin);
	return ret;
}

/*
 * All that there is to read now, or @most bytes of it and a little more: what changes faster than
 * it goes never comes to an end. Returns 0 or an error.
 */
static int send_some(struct departure *departure, uint64_t most, uint64_t *bytes,
		     struct uvf_error *error)
{
	uint8_t *buffer = departure->packet.content;
	uint64_t looked_at = 0, end = most < UINT64_MAX - *bytes ? *bytes + most : UINT64_MAX;

	while (*bytes < end) {
		uint64_t begin = uvf_now_ns();
		ssize_t got = uvf_migration_read(departure->move->dev, buffer, READ_MAX);
		int ret;

		if (!got || got == -ENOMSG)
			return 0;
		if (got == -EINVAL || got == -ENODEV)
			return uvf_fail(error, (int)got, "the driver has reset it, or has gone");
		if (got < 0)
			return uvf_fail(error, (int)got, "its state can't be read: %s",
					strerror((int)-got));
		pace_sent(&departure->pace, 0, uvf_now_ns() - begin);
		ret = send_state(departure, buffer, (size_t)got, error);
		if (ret)
			return ret;
		*bytes += (uint64_t)got;
		if (begin - looked_at < TELL_NS)
			continue;
		looked_at = begin;
		if (move_wait(departure->move, 0, 0) == -ECANCELED)
			return uvf_fail(error, -ECANCELED, "it was cancelled");
		tell(departure, false);
	}
	return 0;
}

/* ---- PRE_COPY ---- */

static int estimate(struct departure *departure, struct uvf_error *error)
{
	struct uvf_device *dev = departure->move->dev;
	uint64_t initial = 0, dirty = 0, size = 0;
	int ret = uvf_migration_precopy_info(dev, &initial, &dirty);

	if (!ret)
		ret = uvf_migration_data_size(dev, &size);
	if (ret)
		return uvf_fail(error, ret, "the driver has reset it, or has gone");
	departure->remaining = initial + dirty > size ? initial + dirty : size;
	departure->expected_ms = pace_downtime_ms(&departure->pace, departure->remaining);
	return 0;
}

/* Whether it is time to stop: 1, not yet: 0, or it never will be. */
static int decide(struct departure *departure, struct uvf_error *error)
{
	uint64_t now = uvf_now_ns();

	if (departure->expected_ms <= departure->max_downtime_ms)
		return 1;
	if (!departure->best_at || departure->expected_ms < departure->best_ms * 0.99) {
		departure->best_ms = departure->expected_ms;
		departure->best_at = now;
	}
	if (now - departure->best_at < STUCK_NS)
		return 0;
	return uvf_fail(error, -EAGAIN,
			"the expected downtime stays at %.0f ms, which is more than %.0f",
			departure->best_ms, departure->max_downtime_ms);
}

static int pre_copy(struct departure *departure, struct uvf_error *error)
{
	int ret = go(departure, VFIO_DEVICE_STATE_PRE_COPY, "PRE_COPY", error);

	if (!ret)
		ret = estimate(departure, error);
	/* A round is what there was when it began. */
	while (!ret) {
		ret = send_some(departure, departure->remaining, &departure->pre_copy_bytes, error);
		if (ret)
			break;
		departure->rounds++;
		pace_round(&departure->pace, uvf_now_ns());
		ret = estimate(departure, error);
		if (!ret)
			ret = decide(departure, error);
		if (!ret && uvf_now_ns() - departure->told >= TELL_NS)
			tell(departure, false);
		if (!ret && move_wait(departure->move, 0, ROUND_MS) == -ECANCELED)
			ret = uvf_fail(error, -ECANCELED, "it was cancelled");
	}
	return ret < 0 ? ret : 0;
}

/* ---- The stop ---- */

/*
 * It starts nothing any more while the driver is still answered: what it has started may need
 * that. Then the driver waits, and the device stops.
 */
static int stop(struct departure *departure, struct uvf_error *error)
{
	uint64_t flags = uvf_migration_flags(departure->move->dev);
	int ret = 0;

	departure->stopped = uvf_now_ns();
	if (flags & VFIO_MIGRATION_PRE_COPY && flags & VFIO_MIGRATION_P2P)
		ret = go(departure, VFIO_DEVICE_STATE_PRE_COPY_P2P, "PRE_COPY_P2P", error);
	else if (flags & VFIO_MIGRATION_P2P)
		ret = go(departure, VFIO_DEVICE_STATE_RUNNING_P2P, "RUNNING_P2P", error);
	if (ret)
		return ret;
	ret = uvf_server_suspend(departure->move->server, SUSPEND_MS, error);
	if (ret)
		return ret;
	ret = go(departure, VFIO_DEVICE_STATE_STOP_COPY, "STOP_COPY", error);
	return ret ? ret : send_some(departure, UINT64_MAX, &departure->stop_copy_bytes, error);
}

static int send_session(struct departure *departure, struct uvf_error *error)
{
	struct move *move = departure->move;
	struct uvf_server_offer offer;
	int ret = uvf_server_offer(move->server, &offer, error);

	if (ret)
		return ret;
	departure->offered = true;
	departure->session_bytes = offer.size;
	for (size_t at = 0, count; at < offer.fd_count && !ret; at += count) {
		count = offer.fd_count - at < MOVE_FDS ? offer.fd_count - at : MOVE_FDS;
		ret = move_send(move, MOVE_FDS_PACKET, "", 1, offer.fds + at, count, error);
	}
	for (size_t at = 0, size; at < offer.size && !ret; at += size) {
		size = offer.size - at < MOVE_MAX_CONTENT ? offer.size - at : MOVE_MAX_CONTENT;
		ret = move_send(move, MOVE_SESSION, (const uint8_t *)offer.bytes + at, size, NULL,
				0, error);
	}
	if (ret)
		return ret;
	/* Before, as the other end doesn't wait for us. */
	enter(departure, "RESUMING");
	return move_send(move, MOVE_OFFER, "", 1, NULL, 0, error);
}

/* ---- The whole ---- */

static int say_hello(struct departure *departure, struct uvf_error *error)
{
	struct move *move = departure->move;
	struct move_hello hello = {.version = MOVE_VERSION};
	int ret;

	strncpy(hello.model, uvf_device_name(move->dev), sizeof(hello.model) - 1);
	ret = move_send(move, MOVE_HELLO, &hello, sizeof(hello), NULL, 0, error);
	if (!ret)
		ret = move_receive(move, &departure->packet, ADOPT_MS, error);
	if (!ret && departure->packet.header.kind != MOVE_WELCOME)
		ret = uvf_fail(error, -EPROTO, "the destination sends what makes no sense");
	return ret;
}

static int leave(struct departure *departure, struct uvf_error *error)
{
	struct move *move = departure->move;
	int ret;

	enter(departure, "RUNNING");
	ret = say_hello(departure, error);
	if (!ret)
		ret = uvf_server_prepare(move->server, error);
	if (ret)
		return ret;
	departure->prepared = true;
	if (uvf_migration_state(move->dev) != VFIO_DEVICE_STATE_RUNNING)
		return uvf_fail(error, -EBUSY, "its driver is migrating it");
	if (uvf_migration_flags(move->dev) & VFIO_MIGRATION_PRE_COPY)
		ret = pre_copy(departure, error);
	if (!ret)
		ret = stop(departure, error);
	if (!ret)
		ret = send_session(departure, error);
	if (!ret)
		ret = move_receive(move, &departure->packet, ADOPT_MS, error);
	if (!ret && (departure->packet.header.kind != MOVE_DONE ||
		     departure->packet.header.size != sizeof(struct move_done)))
		ret = uvf_fail(error, -EPROTO, "the destination sends what makes no sense");
	return ret;
}

/*
 * Back to work. The other end may hold on to the device's storage: that is waited for until @until,
 * or until all ends. Returns 0 also where the driver has gone, or has put it in another state.
 */
static int run_again(struct departure *departure, unsigned every_ms, uint64_t until)
{
	struct move *move = departure->move;
	struct pollfd stop = {move->stop, POLLIN, 0};

	for (;;) {
		int ret = uvf_migration_set_state(move->dev, VFIO_DEVICE_STATE_RUNNING);
		enum vfio_device_mig_state left = uvf_migration_state(move->dev);

		if (!ret || ret == -ENODEV)
			return 0;
		if (uvf_now_ns() >= until || poll(&stop, 1, (int)every_ms) > 0)
			return ret;
		if (uvf_migration_state(move->dev) != left)
			return 0;
	}
}

/* It goes on here, and who waits hears why. */
static void go_on(struct departure *departure, const struct uvf_error *error)
{
	struct move *move = departure->move;
	uint64_t until = uvf_now_ns() + BACK_MS * 1000000ULL;
	int ret = departure->changed ? run_again(departure, BACK_SOON_MS, until) : 0;

	if (departure->prepared)
		uvf_server_go_on(move->server);
	if (ret)
		uvf_device_log(move->dev, UVF_LOG_ERROR, "it does not go on yet: %s",
			       strerror(-ret));
	move_fail(move, error);
	if (!ret)
		return;
	/* Nobody waits for the end of this. */
	move_hang_up(move);
	if (!run_again(departure, BACK_LATE_MS, UINT64_MAX))
		uvf_device_log(move->dev, UVF_LOG_WARNING, "it goes on at last");
}

static int64_t parameter(const struct move *move, const char *name)
{
	struct json_object *value;

	return json_object_object_get_ex(move->parameters, name, &value)
		       ? json_object_get_int64(value)
		       : 0;
}

void move_out(struct move *move)
{
	struct departure *departure = calloc(1, sizeof(*departure));
	struct uvf_error error;
	struct move_done done;
	int ret;

	if (!departure) {
		uvf_fail(&error, -ENOMEM, "no memory");
		move_fail(move, &error);
		return;
	}
	departure->move = move;
	departure->begin = uvf_now_ns();
	departure->pace.bandwidth = (uint64_t)parameter(move, "bandwidth");
	departure->max_downtime_ms = (double)parameter(move, "max_downtime_ms");
	ret = leave(departure, &error);
	if (!ret)
		memcpy(&done, departure->packet.content, sizeof(done));
	/* It may be too late: the other end has it, and didn't come to say so. */
	if (ret && departure->offered && uvf_server_withdraw(move->server) == -EALREADY) {
		ret = 0;
		done.running = uvf_now_ns();
	}
	if (ret) {
		go_on(departure, &error);
	} else {
		uvf_server_let_go(move->server);
		tell_result(departure, &done);
	}
	move_close_fds(&departure->packet);
	free(departure);
}
