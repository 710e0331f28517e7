/*
 * Where an attack plays: its rings, tables and buffers. What devices are told to write to lies here, above the program's own
 * memory, or where there is no RAM at all, so that the attacker outlives its attack. All of it is RAM: 64 MiB are needed.
 */
#pragma once
#include "random.h"
#include <linux/virtio_ring.h>
#include <stdint.h>

#define DEVICES_MAX 16
#define QUEUES_MAX 8
#define RING_SIZE_MAX 256

/* A queue's memory, at fixed places: descriptors, available ring, used ring, indirect tables. */
#define ARENA 0x1000000ul
#define QUEUE_BYTES 0x8000ul
#define AVAIL_OFFSET 0x1000ul
#define USED_OFFSET 0x2000ul
#define TABLES_OFFSET 0x3000ul
#define DEVICE_BYTES (QUEUES_MAX * QUEUE_BYTES)
/*
 * Headers and buffers of each device, and nothing behind them: one that is too long reaches none of the above. The balloon
 * must not find an index of a ring, or random bytes of another device, in its lists of pages: they might be the program's own.
 */
#define BUFFERS 0x2000000ul
#define BUFFERS_BYTES 0x100000ul
#define HEADERS_BYTES 0x1000ul
#define RAM_END 0x4000000ul

struct queue_memory {
	volatile struct vring_desc *descriptors;
	volatile struct vring_avail *avail;
	volatile struct vring_used *used;
	volatile struct vring_desc *tables;
	volatile uint8_t *headers;
	uint64_t buffers;
};

static inline struct queue_memory queue_memory(unsigned int device, unsigned int queue)
{
	uint64_t base = ARENA + device * DEVICE_BYTES + queue % QUEUES_MAX * QUEUE_BYTES;

	return (struct queue_memory){
		(volatile struct vring_desc *)base,
		(volatile struct vring_avail *)(base + AVAIL_OFFSET),
		(volatile struct vring_used *)(base + USED_OFFSET),
		(volatile struct vring_desc *)(base + TABLES_OFFSET),
		(volatile uint8_t *)(BUFFERS + device * BUFFERS_BYTES + queue % QUEUES_MAX * HEADERS_BYTES),
		BUFFERS + device * BUFFERS_BYTES,
	};
}

/* An address for a buffer: as a rule in one, else across the end of RAM, on a device, above all memory, or nowhere. */
static inline uint64_t random_address(uint64_t *state, struct queue_memory memory)
{
	switch (random_below(state, 16)) {
	case 0:
		return RAM_END - random_below(state, 0x2000);
	case 1:
		return 0xd0000000 + random_below(state, 0x10000);
	case 2:
		return 1ull << (32 + random_below(state, 32));
	case 3:
		return next_random(state) | 1ull << 40;
	default:
		return memory.buffers + random_below(state, BUFFERS_BYTES);
	}
}

static inline uint32_t any_length(uint64_t *state)
{
	switch (random_below(state, 8)) {
	case 0:
		return 0;
	case 1:
		return next_random(state);
	case 2:
		return 0xffffffff;
	case 3:
		return random_below(state, 1 << 20);
	default:
		return random_below(state, 4096);
	}
}

/*
 * Whatever is in the arena may be taken for a list of pages by a balloon, which gives them away: none is called like one of
 * the program's own.
 */
#define OWN_PAGES_START 0x100
#define OWN_PAGES_END 0x200

static inline uint32_t random_length(uint64_t *state)
{
	uint32_t length = any_length(state);

	return length >= OWN_PAGES_START && length < OWN_PAGES_END ? length + OWN_PAGES_END : length;
}

/* The index of a descriptor; now and then of none. */
static inline uint16_t random_index(uint64_t *state)
{
	return random_below(state, 8) ? random_below(state, OWN_PAGES_START) : OWN_PAGES_END + random_below(state, 0x8000);
}

static inline uint16_t random_flags(uint64_t *state)
{
	return random_below(state, 8) ? random_below(state, 8) : 0x8000 | next_random(state);
}

/*
 * Any descriptor. A table is one of the queue's own, and aligned: what devices write into buffers would make a table of any
 * address at all.
 */
static inline void random_descriptor(uint64_t *state, struct queue_memory memory, volatile struct vring_desc *to)
{
	uint16_t flags = random_flags(state);

	to->addr = flags & VRING_DESC_F_INDIRECT ?
			   (uint64_t)(memory.tables + random_below(state, RING_SIZE_MAX)) :
			   random_address(state, memory);
	to->len = random_below(state, 4) ? random_length(state) : sizeof(*to) * (random_below(state, 8) ? random_below(state, 16) : 32 + random_below(state, 300));
	to->next = random_below(state, 2) ? random_below(state, 16) : random_index(state);
	to->flags = flags;
}
