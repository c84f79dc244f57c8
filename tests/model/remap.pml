/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The protocol of regions whose areas change while they are mapped (include/uvfio/remap.h), for
 * spin: one area that a device takes away to save its state and gives back, another part of the
 * same region that changes at any time, the IRQ, and a driver that maps, writes and follows. What
 * is one step here is under one lock in src/core.
 *
 * Found as errors:
 *   a missed write   one straight into memory while the device looks at calls only (assertion)
 *   a lost change    all is over and the driver doesn't know it (no end that is valid)
 *   a deadlock       as that; or a driver that follows and is waited for in vain (assertion)
 *
 * Of a driver:     -DUNKNOWN  what it has mapped is not known: it was given the memory once
 *                  -DSILENT   it may stop following, for ever
 * Of the device:   -DCANCEL   what waits can be given up, by going back, a reset or closing
 * Errors that are to be found: the names with BUG_, below, where they are.
 */

#define SAVES  3 /* transitions to PRE_COPY */
#define OTHERS 2 /* changes of another area of the region */

/* The core. */
byte generation, read_generation, acknowledged;
bool area = true;
bool masked, event;
bool claimed; /* KNOWN: it has it mapped. UNKNOWN: it has been given it */
bool waits, relies; /* for the driver; on calls only */
bool over;

/* The driver. */
byte view;	/* the newest generation that it has asked for */
bool may = true; /* it maps the area, for all that it knows */
bool mapped;
bool busy; /* following */

#ifdef SILENT
#define lies true
#else
#define lies false
#endif

#define unread (generation != read_generation)

/* The IRQ's level: fires when it rises, and when it is unmasked. */
inline fire()
{
	if
	:: unread && !masked -> masked = true; event = true
	:: else
	fi
}

inline change(there)
{
	area = there;
	generation++;
	fire()
}

#ifdef UNKNOWN
#define settled (acknowledged == generation)
#define in_conflict false
#else
#define settled (acknowledged == generation || !claimed)
#define in_conflict claimed
#endif

active proctype Device()
{
	byte saves, others;

	do
	:: atomic { saves < SAVES && !waits && !relies ->
		saves++;
		if
		:: claimed -> waits = true
		:: else -> relies = true
		fi;
		change(false) }
	:: atomic { waits && settled ->
		waits = false;
		if
		:: in_conflict -> assert(lies); change(true) /* -EBUSY */
		:: else -> relies = true
		fi }
#ifdef CANCEL
	:: atomic { waits -> waits = false; change(true) }
#endif
	/* The limit. For who follows it never comes: it has something to do, or has done it. */
	:: atomic { waits && !settled && (lies || (!event && !busy)) ->
		assert(lies);
		waits = false;
		change(true) }
	:: atomic { relies -> relies = false; change(true) }
	:: atomic { others < OTHERS -> others++; generation++; fire() }
	:: atomic { saves == SAVES && others == OTHERS && !waits && !relies -> break }
	od;
	over = true
}

inline take_flag()
{
	atomic {
		changed = unread;
#ifndef BUG_CLEAR_AT_UNMASK
		read_generation = generation
#endif
	}
}

inline get_info()
{
	atomic { there = area; seen = generation }
}

inline unmask()
{
	atomic {
#ifdef BUG_CLEAR_AT_UNMASK
		read_generation = generation;
#endif
#ifdef BUG_ACKNOWLEDGE_UNREAD
		acknowledged = generation;
#else
		acknowledged = read_generation;
#endif
		masked = false;
#ifndef BUG_EDGE
		fire()
#endif
	}
}

inline drop()
{
	if
	:: changed && !there && mapped ->
		mapped = false;
#ifndef UNKNOWN
		claimed = false
#endif
	:: else
	fi
}

inline follow()
{
	atomic { event = false; busy = true }
#ifdef BUG_INFO_FIRST
	get_info();
	take_flag();
#else
	take_flag();
	get_info();
#endif
	if
	:: changed -> view = seen; may = there
	:: else
	fi;
#ifdef BUG_UNMASK_FIRST
	unmask();
	drop();
#else
	drop();
	unmask();
#endif
	busy = false
}


active proctype Driver()
{
	bool changed, there;
	byte seen;

	do
	:: event -> follow()
#ifdef UNKNOWN
	:: atomic { !over && may && !claimed && area -> claimed = true }
	:: atomic { !over && may && !mapped && claimed -> mapped = true }
#elif defined(BUG_CLAIM_LATE)
	:: atomic { !over && may && !mapped && area -> mapped = true } claimed = true
#else
	/* The device is told first, and says whether it is still so. */
	:: atomic { !over && may && !mapped && area -> claimed = true } mapped = true
#endif
	:: !over && mapped -> mapped = false
#ifndef UNKNOWN
		; claimed = false
#endif
#ifdef SILENT
	:: break
#endif
	:: atomic { over && !event && !unread && view == generation -> break }
	od
}

/* Another thread of the driver's, by the mapping where there is one and by calls. */
active proctype Writer()
{
	bool there;

	do
	:: atomic { !over && mapped -> assert(!relies) }
#ifdef BUG_NO_LOCK
	:: !over -> there = area; assert(!there || !relies)
#else
	/* Where the bytes go is looked up, and they are moved, with the device's lock. */
	:: atomic { !over -> there = area; assert(!there || !relies) }
#endif
	:: over -> break
	od
}
