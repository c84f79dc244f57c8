/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Accepting when descriptors have run out: who connects would keep a listener's loop busy for ever,
 * because nothing takes him out of the backlog. So one descriptor is kept in reserve, and given up
 * to accept him and hang up.
 */
#ifndef UVF_BASE_ACCEPT_H
#define UVF_BASE_ACCEPT_H

/* The reserve: a descriptor, or -1: there is none. */
int uvf_accept_spare(void);

/*
 * accept4() on a listener that doesn't block. *@spare is the reserve, which is put back.
 * Errors: -EMFILE: a client was dropped; -EAGAIN: nobody is there, or was when it was asked, or
 * another thread took the place that was given up (*@spare is -1 then: look again later, not at
 * once); those of accept4().
 */
int uvf_accept(int listener, int flags, int *spare);

#endif
