/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The line of a serial port: where its bytes come from and go to. All kinds look the same once
 * they are open: a pair of file descriptors, and perhaps a listening one where the next peer comes
 * from.
 */
#ifndef UVF_SERIAL_LINE_H
#define UVF_SERIAL_LINE_H

#include <sys/types.h>
#include <uvfio/types.h>

struct line {
	int in;	      /* to read from; -1: nothing comes (any more) */
	int out;      /* to write to; -1: nobody is there, what is sent is lost */
	int listener; /* where peers come from; -1: there are none */
	int spare;    /* with a listener: base/accept.h */
	int keep;     /* held so that a pty does not hang up when its last user closes it; or -1 */
	char *remove; /* a path that goes when the line does, or NULL */
	char *where;  /* for people, and for the log: "pty /dev/pts/3" */
};

/* What @text may be in line_open(). */
#define LINE_EXPECTS "pty|unix:PATH|file:PATH|stdio"
bool line_known(const char *text);

/*
 * Opens what @text says, which is known. @link is for a pty: a symbolic link to be made to it, or
 * NULL. Errors: those of open(2), bind(2) and symlink(2).
 */
int line_open(struct line *line, const char *text, const char *link, struct uvf_error *error);
void line_close(struct line *line);

/* Takes the peer that waits at the listener. Errors: those of accept(2); -EMFILE: it was dropped.
 */
int line_accept(struct line *line);
/* Nothing comes any more. The peer of a listening line is gone; other lines can still be sent to */
void line_hang_up(struct line *line);

/* As read(2) and write(2), with a negative errno. The caller has SIGPIPE blocked or ignored. */
ssize_t line_read(const struct line *line, void *bytes, size_t count);
ssize_t line_write(const struct line *line, const void *bytes, size_t count);

#endif
