/* SPDX-License-Identifier: BSD-3-Clause */
/* Signals while a program runs: passed on by a thread that waits for them. */
#include "cli/signals.h"

#include <errno.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/syscall.h>
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
	/* Where it is ignored, how a child has ended can't be asked for. */
	signal(SIGCHLD, SIG_DFL);
}

static bool ends(int number)
{
	return number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT;
}

int signals_ended_early(const struct signals *signals)
{
	sigset_t pending;

	sigpending(&pending);
	for (int number = 1; number < NSIG; number++)
		if (ends(number) && sigismember(&pending, number) == 1 &&
		    !sigismember(&signals->inherited, number))
			return number;
	return 0;
}

static bool stops(int number)
{
	return number == SIGTSTP || number == SIGTTIN || number == SIGTTOU;
}

/* Whether the program has got it, too. Alarms and limits are the kernel's as well, but ours alone.
 */
static bool has_got(const struct signals *signals, const siginfo_t *info)
{
	if (info->si_code == SI_USER && info->si_pid == signals->program)
		return true; /* it sent it: to itself too, or not */
	if (info->si_code != SI_KERNEL)
		return false;
	/* A terminal that hangs up tells the session's leader alone. */
	if (info->si_signo == SIGHUP)
		return getsid(0) != getpid();
	return stops(info->si_signo) || info->si_signo == SIGINT || info->si_signo == SIGQUIT ||
	       info->si_signo == SIGWINCH;
}

/* By a descriptor: the number may be another's when the program has ended. False: it has. */
static bool send_on(const struct signals *signals, int number, const siginfo_t *info)
{
	return syscall(SYS_pidfd_send_signal, signals->pidfd, number, info, 0) == 0 ||
	       errno != ESRCH;
}

static void end_by(int number)
{
	sigset_t only;

	signal(number, SIG_DFL);
	sigemptyset(&only);
	sigaddset(&only, number);
	pthread_sigmask(SIG_UNBLOCK, &only, NULL);
	kill(getpid(), number);
}

static void pass_on(const struct signals *signals, const siginfo_t *info)
{
	int number = info->si_signo;
	bool pass = !has_got(signals, info);

	/* What the program has left behind goes on without us, as after any other end of ours. */
	if (pass && !send_on(signals, number, info->si_code == SI_QUEUE ? info : NULL) &&
	    ends(number))
		end_by(number);
	if (!stops(number))
		return;
	raise(SIGSTOP);
	/* Who stopped us alone lets us alone go on. */
	if (pass)
		send_on(signals, SIGCONT, NULL);
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
	int ret;

	signals->program = program;
	signals->pidfd = (int)syscall(SYS_pidfd_open, program, 0);
	if (signals->pidfd < 0 && errno != ESRCH)
		return -errno;
	ret = -pthread_create(&signals->thread, NULL, signals_thread, signals);
	if (ret && signals->pidfd >= 0)
		close(signals->pidfd);
	return ret;
}

void signals_stop(struct signals *signals)
{
	atomic_store(&signals->stop, true);
	pthread_kill(signals->thread, SIGUSR1);
	pthread_join(signals->thread, NULL);
	if (signals->pidfd >= 0)
		close(signals->pidfd);
}

int signals_end_as(const struct signals *signals, int wait_status)
{
	const struct rlimit none = {0, 0};
	int number;

	if (WIFEXITED(wait_status))
		return WEXITSTATUS(wait_status);
	number = WTERMSIG(wait_status);
	/* The program has left its core; ours says nothing. */
	setrlimit(RLIMIT_CORE, &none);
	end_by(number);
	return 128 + number;
}
