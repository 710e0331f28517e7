/*
 * Where an attack plays: its rings, tables and buffers. The attacker outlives its attack, since no device is ever told to write
 * into the program, its stack or its heap, which lie below the arena. That has to hold for whatever a device may see while two CPUs
 * change it, and for what devices themselves write:
 *
 * - A descriptor is in a table of the queues or in an indirect one. Each place there is for a buffer or for a table, for good
 *   (is_table_place), and is filled from the start: of an old value and a new one no third is made that names something else.
 * - No device writes where descriptors are: used rings are at places of their own (random_used_ring), and buffers above all.
 * - An index goes past the end of an indirect table, into others of the kind, or zeros: descriptors of nothing.
 * - A balloon gives away the pages of the lists that it reads. Those are the attacker's own words, none of which makes a page of
 *   the program: no other device writes there, and no balloon reads elsewhere.
 *
 * All of it is RAM: 64 MiB are needed.
 */
#pragma once
#include "random.h"
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include <stdint.h>

#define DEVICES_MAX 16
#define QUEUES_MAX 8
/* The largest that a queue of any device can be: its descriptors, and nothing else, are its descriptors. */
#define RING_SIZE_MAX 512
#define TABLE_SIZE 256
/* A table's last descriptor links to one of 65536. */
#define TABLE_REACH 0x100000ul

/* A queue's memory, at fixed places: descriptors, available ring, used ring. */
#define ARENA 0x1000000ul
#define QUEUE_BYTES 0x8000ul
#define AVAIL_OFFSET 0x2000ul
#define USED_OFFSET 0x3000ul
#define DEVICE_BYTES (QUEUES_MAX * QUEUE_BYTES)
/* Indirect tables of all devices, and those of balloons. */
#define TABLE_BYTES (TABLE_SIZE * sizeof(struct vring_desc))
#define TABLES 0x1400000ul
#define BALLOON_TABLES (TABLES + DEVICES_MAX * QUEUES_MAX * TABLE_BYTES + TABLE_REACH)
/* For used rings that are anywhere. */
#define USED_RINGS 0x1700000ul
#define USED_RINGS_BYTES 0x80000ul
/* Headers and buffers of each device; what is too long reaches those of others, or no RAM. */
#define BUFFERS_BYTES 0x100000ul
#define HEADERS_BYTES 0x1000ul
#define BALLOON_BUFFERS 0x1800000ul
#define BUFFERS 0x2000000ul
#define RAM_END 0x4000000ul

struct queue_memory {
	volatile struct vring_desc *descriptors;
	volatile struct vring_avail *avail;
	volatile struct vring_used *used;
	volatile struct vring_desc *tables;
	volatile uint8_t *headers;
	uint64_t buffers;
	int is_balloon;
};

/* Of a device by its number and ID. */
static inline struct queue_memory queue_memory(unsigned int device, uint32_t id, unsigned int queue)
{
	int is_balloon = id == VIRTIO_ID_BALLOON;
	uint64_t base = ARENA + device * DEVICE_BYTES + queue % QUEUES_MAX * QUEUE_BYTES;
	uint64_t tables = is_balloon ? BALLOON_TABLES : TABLES + device * QUEUES_MAX * TABLE_BYTES;
	uint64_t buffers = is_balloon ? BALLOON_BUFFERS : BUFFERS + device * BUFFERS_BYTES;

	return (struct queue_memory){
		(volatile struct vring_desc *)base,
		(volatile struct vring_avail *)(base + AVAIL_OFFSET),
		(volatile struct vring_used *)(base + USED_OFFSET),
		(volatile struct vring_desc *)(tables + queue % QUEUES_MAX * TABLE_BYTES),
		(volatile uint8_t *)(buffers + queue % QUEUES_MAX * HEADERS_BYTES),
		buffers,
		is_balloon,
	};
}

static inline uint64_t random_buffer(uint64_t *state, struct queue_memory memory)
{
	return memory.buffers + random_below(state, BUFFERS_BYTES);
}

/*
 * An address for a buffer: as a rule in one, else across the end of RAM, on a device, above all memory, or nowhere. Half of one
 * and half of another is such an address, too.
 */
static inline uint64_t random_address(uint64_t *state, struct queue_memory memory)
{
	switch (random_below(state, 16)) {
	case 0:
		return memory.is_balloon ? RAM_END : RAM_END - random_below(state, 0x2000);
	case 1:
		return 0xd0000000 + random_below(state, 0x10000);
	case 2:
		return 1ull << (32 + random_below(state, 32)) | random_buffer(state, memory);
	case 3:
		return (next_random(state) | 1) << 32 | random_buffer(state, memory);
	default:
		return random_buffer(state, memory);
	}
}

/* The length of a buffer. Of one that goes past the end of RAM a balloon may take the rest: it is given none so long. */
static inline uint32_t random_length(uint64_t *state, struct queue_memory memory)
{
	switch (random_below(state, 8)) {
	case 0:
		return 0;
	case 1:
		return memory.is_balloon ? random_below(state, BUFFERS_BYTES) : next_random(state);
	case 2:
		return memory.is_balloon ? BUFFERS_BYTES : 0xffffffff;
	case 3:
		return random_below(state, BUFFERS_BYTES);
	default:
		return random_below(state, 4096);
	}
}

/* The length of an indirect table: now and then an odd one. */
static inline uint32_t random_table_length(uint64_t *state)
{
	return random_below(state, 8) ? sizeof(struct vring_desc) * random_below(state, 16) :
					random_below(state, TABLE_REACH + 0x1000);
}

/* The index of a descriptor; now and then of none. */
static inline uint16_t random_index(uint64_t *state)
{
	return random_below(state, 8) ? random_below(state, TABLE_SIZE) : next_random(state);
}

/* Of eight places for descriptors the last one is for a table. */
#define TABLE_PLACE 7

static inline int is_table_place(volatile struct vring_desc *place)
{
	return (uint64_t)place / sizeof(*place) % 8 == TABLE_PLACE;
}

/* A length for what is in a place. */
static inline uint32_t random_length_at(uint64_t *state, struct queue_memory memory, volatile struct vring_desc *place)
{
	return is_table_place(place) ? random_table_length(state) : random_length(state, memory);
}

/* Any descriptor that may be in its place. */
static inline void random_descriptor(uint64_t *state, struct queue_memory memory, volatile struct vring_desc *to)
{
	uint16_t flags = random_below(state, 8) ? random_below(state, 4) : 0x8000 | next_random(state);
	int is_table = is_table_place(to);

	to->addr = is_table ? (uint64_t)(memory.tables + random_below(state, TABLE_SIZE)) : random_address(state, memory);
	to->len = random_length_at(state, memory, to);
	to->next = random_below(state, 2) ? random_below(state, 16) : random_index(state);
	to->flags = is_table ? flags | VRING_DESC_F_INDIRECT : flags & ~VRING_DESC_F_INDIRECT;
}

/* Gives each place something that may be there. */
static inline void fill_descriptors(uint64_t *state, struct queue_memory memory)
{
	for (unsigned int i = 0; i < RING_SIZE_MAX; i++)
		random_descriptor(state, memory, memory.descriptors + i);
	for (unsigned int i = 0; i < TABLE_SIZE; i++)
		random_descriptor(state, memory, memory.tables + i);
}

/* Where a used ring may be: where others are, on an available ring, anywhere among used rings, at no boundary, or nowhere. */
static inline uint32_t random_used_ring(uint64_t *state)
{
	struct queue_memory memory = queue_memory(random_below(state, DEVICES_MAX), 0, random_below(state, QUEUES_MAX));

	switch (random_below(state, 8)) {
	case 0:
		return (uint64_t)memory.avail;
	case 1:
		return USED_RINGS + random_below(state, USED_RINGS_BYTES);
	case 2:
		return next_random(state) | 1u << 31;
	default:
		return (uint64_t)memory.used;
	}
}
