/* SPDX-License-Identifier: BSD-3-Clause */
/* Movers: one a device, their threads, what they are told at the beginning. */
#include "cli/move.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uvfio/device.h>

#include "base/fdpass.h"
#include "cli/move_link.h"

/* For the line that comes after the answer. */
#define PARAMETERS_MS 10000

struct moves {
	size_t count;
	int stop;
	struct move moves[];
};

/* ---- The device's log ---- */

static void log_and_keep(void *opaque, enum uvf_log_level level, const char *who, const char *text)
{
	struct move *move = opaque;

	if (level == UVF_LOG_ERROR) {
		pthread_mutex_lock(&move->lock);
		strncpy(move->last_error, text, sizeof(move->last_error) - 1);
		pthread_mutex_unlock(&move->lock);
	}
	if (move->log.fn)
		move->log.fn(move->log.opaque, level, who, text);
}

void moves_log(struct moves *moves, size_t nth, const struct uvf_log *log, struct uvf_log *own)
{
	struct move *move = &moves->moves[nth];

	move->log = *log;
	*own = (struct uvf_log){.fn = log_and_keep, .opaque = move, .level = log->level};
}

void move_forget(struct move *move)
{
	pthread_mutex_lock(&move->lock);
	move->last_error[0] = '\0';
	pthread_mutex_unlock(&move->lock);
}

const char *move_reason(struct move *move, const char *otherwise, struct uvf_error *room)
{
	pthread_mutex_lock(&move->lock);
	uvf_fail(room, 0, "%s", move->last_error[0] ? move->last_error : otherwise);
	pthread_mutex_unlock(&move->lock);
	return room->text;
}

/* ---- The thread ---- */

/* A line of JSON, and with its first byte the link. */
static int take_parameters(struct move *move, struct uvf_error *error)
{
	char line[MOVE_MAX_PARAMETERS + 1];
	size_t have = 0, fd_count = 0;
	int fds[1], ret;

	while (!have || line[have - 1] != '\n') {
		struct pollfd ready[] = {{move->control, POLLIN, 0}, {move->stop, POLLIN, 0}};
		ssize_t got;

		ret = poll(ready, 2, PARAMETERS_MS);
		if (ret <= 0 || ready[1].revents || have == MOVE_MAX_PARAMETERS)
			return uvf_fail(error, -EPROTO, "nobody says where it goes");
		got = uvf_fdpass_receive(move->control, line + have, MOVE_MAX_PARAMETERS - have,
					 fds, 1, &fd_count, MSG_DONTWAIT);
		if (fd_count) {
			if (move->link >= 0)
				close(move->link);
			move->link = fds[0];
		}
		if (got == -EAGAIN)
			continue;
		if (got <= 0)
			return uvf_fail(error, -EPROTO, "nobody says where it goes");
		have += (size_t)got;
	}
	line[have] = '\0';
	move->parameters = json_tokener_parse(line);
	if (!json_object_is_type(move->parameters, json_type_object) || move->link < 0)
		return uvf_fail(error, -EPROTO, "it is not said where it goes");
	return 0;
}

static void *move_thread(void *opaque)
{
	struct move *move = opaque;
	struct uvf_error error;

	if (take_parameters(move, &error))
		move_fail(move, &error);
	else if (move->out)
		move_out(move);
	else
		move_in(move);
	json_object_put(move->parameters);
	move->parameters = NULL;
	/* Who sees the hang-up finds the device free for the next move. */
	move->ended = true;
	close(move->control);
	if (move->link >= 0)
		close(move->link);
	return NULL;
}

static void reap(struct move *move)
{
	if (move->started)
		pthread_join(move->thread, NULL);
	move->started = false;
}

/* #syscalls: fcntl close */
int moves_begin(struct moves *moves, size_t nth, bool out, int fd, struct uvf_error *error)
{
	struct move *move = &moves->moves[nth];
	int ret;

	if (!move->server)
		return uvf_fail(error, -EOPNOTSUPP, "no server of this device is here");
	if (move->started && !move->ended)
		return uvf_fail(error, -EBUSY, "it is being moved already");
	reap(move);
	move->control = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (move->control < 0)
		return uvf_fail(error, -EMFILE, "%s", strerror(errno));
	move->link = -1;
	move->out = out;
	move->ended = false;
	ret = -pthread_create(&move->thread, NULL, move_thread, move);
	move->started = !ret;
	if (!ret)
		return 0;
	close(move->control);
	return uvf_fail(error, ret, "no thread");
}

/* ---- All of them ---- */

struct moves *moves_new(size_t count)
{
	struct moves *moves = calloc(1, sizeof(*moves) + count * sizeof(moves->moves[0]));

	if (!moves)
		return NULL;
	moves->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (moves->stop < 0) {
		free(moves);
		return NULL;
	}
	moves->count = count;
	for (size_t i = 0; i < count; i++) {
		moves->moves[i].stop = moves->stop;
		pthread_mutex_init(&moves->moves[i].lock, NULL);
	}
	return moves;
}

void moves_set(struct moves *moves, size_t nth, struct uvf_device *dev, struct uvf_server *server)
{
	moves->moves[nth].dev = dev;
	moves->moves[nth].server = server;
}

/* #syscalls: write */
void moves_free(struct moves *moves)
{
	uint64_t one = 1;
	ssize_t written;

	if (!moves)
		return;
	written = write(moves->stop, &one, sizeof(one));
	(void)written; /* it can only be full: then it is readable */
	for (size_t i = 0; i < moves->count; i++) {
		reap(&moves->moves[i]);
		pthread_mutex_destroy(&moves->moves[i].lock);
	}
	close(moves->stop);
	free(moves);
}
