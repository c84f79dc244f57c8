/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Signals while a program runs that is to feel as if it had been started itself. What is sent to
 * this process goes on to the program. What the terminal sends (^C, ^\, ^Z, a new size) the program
 * has got already, being in the same process group; but a hang-up only if this isn't the session's
 * leader. Of these only ^Z concerns this process, which stops too, so that the shell sees the job
 * stop. When the program has ended, and something that it started hasn't, this process ends by what
 * it would have passed on.
 */
#ifndef UVF_CLI_SIGNALS_H
#define UVF_CLI_SIGNALS_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

struct signals {
	sigset_t inherited; /* the mask that the program gets */
	sigset_t forwarded;
	pid_t program;
	int pidfd; /* the program's; -1: it had ended at once */
	pthread_t thread;
	atomic_bool stop;
};

/* Before there are threads: all that would be passed on waits. */
void signals_block(struct signals *signals);
/* One that would have ended the program is waiting: its number, or 0. */
int signals_ended_early(const struct signals *signals);
/* Passes on what comes. Errors: -EAGAIN. */
int signals_start(struct signals *signals, pid_t program);
void signals_stop(struct signals *signals);
/* Ends as @wait_status says that the program has: by the same signal, or with the status returned.
 */
int signals_end_as(const struct signals *signals, int wait_status);

#endif
