/* SPDX-License-Identifier: BSD-3-Clause */
/* The SIGBUS handler, and guarded accesses where the compiler can't give us fault tables. */
#include "base/guard.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <uvfio/dma.h>

#include "base/guard_table.h"

/*
 * The one piece of process-wide state: signal handlers are process-wide. What was there before us
 * is in one of two places, so that a handler that runs never reads what is being written.
 */
static struct {
	pthread_mutex_t lock;
	struct sigaction previous[2];
	_Atomic(const struct sigaction *) current; /* NULL: not installed yet */
} guard = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* This thread is in the handler that was there before. */
static _Thread_local volatile sig_atomic_t chained;

/* As the kernel does when there is no handler. */
static void default_effect(const siginfo_t *info)
{
	struct sigaction action = {.sa_handler = SIG_DFL};

	sigaction(SIGBUS, &action, NULL);
	/* A fault happens again when we return; a signal that was sent does not. */
	if (info->si_code <= 0)
		raise(SIGBUS);
}

/* What would have happened without us. */
static void chain(int signal_number, siginfo_t *info, void *context)
{
	const struct sigaction *previous =
		atomic_load_explicit(&guard.current, memory_order_acquire);

	/* It came back to us: it took us for what was there before, and we it. */
	if (!previous || chained) {
		default_effect(info);
		return;
	}
	if (previous->sa_flags & SA_SIGINFO ||
	    (previous->sa_handler != SIG_DFL && previous->sa_handler != SIG_IGN)) {
		chained = 1;
		if (previous->sa_flags & SA_SIGINFO)
			previous->sa_sigaction(signal_number, info, context);
		else
			previous->sa_handler(signal_number);
		chained = 0;
		return;
	}
	/* Sent by kill() and ignored before: so it is still. A fault can't be ignored. */
	if (previous->sa_handler == SIG_IGN && info->si_code <= 0)
		return;
	default_effect(info);
}

static void handle(int signal_number, siginfo_t *info, void *context)
{
	/* Only what the kernel raises for an access, not what somebody sends. */
	if (info->si_code > 0 && uvf_guard_fix_up(context))
		return;
	chain(signal_number, info, context);
}

void uvf_guard_install(void)
{
	/* SA_NODEFER: the handler may be left by a jump, with the mask as it was. */
	struct sigaction action = {
		.sa_sigaction = handle,
		.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK,
	};
	struct sigaction now, *previous;

	pthread_mutex_lock(&guard.lock);
	sigaction(SIGBUS, NULL, &now);
	if (!(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != handle) {
		sigemptyset(&action.sa_mask);
		previous = &guard.previous[guard.current == &guard.previous[0]];
		*previous = now;
		atomic_store_explicit(&guard.current, previous, memory_order_release);
		sigaction(SIGBUS, &action, NULL);
	}
	pthread_mutex_unlock(&guard.lock);
}

int uvf_guarded_copy(void *to, const void *from, size_t size)
{
	if (!atomic_load_explicit(&guard.current, memory_order_relaxed))
		uvf_guard_install();
	return uvf_guard_copy(to, from, size);
}
