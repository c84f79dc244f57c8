/* SPDX-License-Identifier: BSD-3-Clause */
/* Signals while a program runs: passed on by a thread that waits for them. */
#include "cli/signals.h"

#include <errno.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"

void signals_block(struct signals *signals)
{
	/* Faults are this process's own, and its children too. */
	static const int own[] = {SIGKILL, SIGSTOP, SIGCHLD, SIGSEGV, SIGBUS, SIGILL,
				  SIGFPE,  SIGTRAP, SIGSYS,  SIGABRT, SIGCONT};

	sigfillset(&signals->forwarded);
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		sigdelset(&signals->forwarded, own[i]);
	pthread_sigmask(SIG_BLOCK, &signals->forwarded, &signals->inherited);
	/* Blocked is as good as ignored for us, and a program inherits it not. */
	signal(SIGPIPE, cli_inherited_sigpipe());
	sigdelset(&signals->forwarded, SIGPIPE);
}

int signals_ended_early(const struct signals *signals)
{
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	sigset_t pending;

	sigpending(&pending);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (sigismember(&pending, ends[i]) && !sigismember(&signals->inherited, ends[i]))
			return ends[i];
	return 0;
}

static bool stops(int number)
{
	return number == SIGTSTP || number == SIGTTIN || number == SIGTTOU;
}

static void pass_on(const struct signals *signals, const siginfo_t *info)
{
	bool of_terminal = info->si_code == SI_KERNEL;

	if (!of_terminal) {
		if (info->si_code == SI_QUEUE)
			sigqueue(signals->program, info->si_signo, info->si_value);
		else
			kill(signals->program, info->si_signo);
	}
	if (stops(info->si_signo))
		kill(getpid(), SIGSTOP);
}

static void *signals_thread(void *opaque)
{
	struct signals *signals = opaque;
	siginfo_t info;

	while (!atomic_load(&signals->stop))
		if (sigwaitinfo(&signals->forwarded, &info) > 0 && !atomic_load(&signals->stop))
			pass_on(signals, &info);
	return NULL;
}

int signals_start(struct signals *signals, pid_t program)
{
	signals->program = program;
	return -pthread_create(&signals->thread, NULL, signals_thread, signals);
}

void signals_stop(struct signals *signals)
{
	atomic_store(&signals->stop, true);
	pthread_kill(signals->thread, SIGUSR1);
	pthread_join(signals->thread, NULL);
}

int signals_end_as(const struct signals *signals, int wait_status)
{
	const struct rlimit none = {0, 0};
	sigset_t only;
	int number;

	if (WIFEXITED(wait_status))
		return WEXITSTATUS(wait_status);
	number = WTERMSIG(wait_status);
	/* The program has left its core; ours says nothing. */
	setrlimit(RLIMIT_CORE, &none);
	signal(number, SIG_DFL);
	sigemptyset(&only);
	sigaddset(&only, number);
	pthread_sigmask(SIG_UNBLOCK, &only, NULL);
	kill(getpid(), number);
	return 128 + number;
}
