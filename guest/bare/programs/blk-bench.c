/*
 * What a virtio-blk device does: requests of one kind, so many at a time, for so long. Completions are polled for, no
 * interrupt is asked for, and what is read is checked.
 *
 *   ticks=N                                     how long to measure, in ticks of the time stamp counter
 *   job=randread|randwrite|read|write,BYTES,DEPTH[,REQUESTS]
 *                                               as often as there are jobs; with REQUESTS until so many are done
 *
 * Every block of 4096 bytes of the disk begins with its own number, in 64 bits, and is left so. A job's line:
 *
 *   blk-bench: randread,4096,32 requests N ticks N notifications N
 */
#include <linux/virtio_blk.h>
#include "boot.h"
#include "console.h"
#include "io.h"
#include "memory.h"
#include "virtio.h"

#define SECTOR 512
#define BLOCK 4096
#define QUEUE_SIZE 256
#define DEPTH_MAX 64
#define DATA_MAX (4 << 20)
/* The longest piece of a chain. */
#define PIECE_MAX (64 << 10)
/* Many seconds. */
#define PATIENCE 50000000000ull

struct slot {
	struct virtio_blk_outhdr header;
	uint8_t status;
	uint16_t head;
	uint64_t block;
	uint8_t *data;
};

struct job {
	const char *word, *word_end;
	int is_write, is_random;
	uint64_t bytes, depth, requests;
};

static struct virtio_device disk;
static struct virtqueue queue;
static uint64_t blocks;
static uint8_t *data;
static struct slot slots[DEPTH_MAX];
static struct slot *slot_of_head[QUEUE_SIZE];
static uint64_t random_state = 0x9e3779b97f4a7c15;
static uint64_t next_block;

static uint64_t random_below(uint64_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned __int128)random_state * limit >> 64;
}

/* --- Requests --- */

static void make_slot(struct slot *slot, const struct job *job)
{
	struct piece pieces[2 + DATA_MAX / PIECE_MAX];
	unsigned int count = 0;

	pieces[count++] = (struct piece){ &slot->header, sizeof(slot->header) };
	for (uint64_t at = 0; at < job->bytes; at += PIECE_MAX) {
		uint64_t left = job->bytes - at;

		pieces[count++] = (struct piece){ slot->data + at, left < PIECE_MAX ? left : PIECE_MAX };
	}
	pieces[count++] = (struct piece){ &slot->status, 1 };
	slot->header.type = job->is_write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	slot->head = virtqueue_chain(&queue, pieces, job->is_write ? count - 1 : 1, job->is_write ? 1 : count - 1);
	slot_of_head[slot->head] = slot;
}

static void begin_request(struct slot *slot, const struct job *job)
{
	uint64_t count = job->bytes / BLOCK;

	if (job->is_random) {
		slot->block = random_below(blocks / count) * count;
	} else {
		slot->block = next_block;
		next_block += count;
		if (next_block + count > blocks)
			next_block = 0;
	}
	slot->header.sector = slot->block * (BLOCK / SECTOR);
	slot->status = 0xff;
	for (uint64_t at = 0; at < job->bytes; at += BLOCK)
		*(uint64_t *)(slot->data + at) = job->is_write ? slot->block + at / BLOCK : ~0ull;
	virtqueue_post(&queue, slot->head);
}

static void check_request(const struct slot *slot, const struct job *job)
{
	if (slot->status != VIRTIO_BLK_S_OK)
		die("a request failed");
	if (job->is_write)
		return;
	for (uint64_t at = 0; at < job->bytes; at += BLOCK)
		if (*(uint64_t *)(slot->data + at) != slot->block + at / BLOCK)
			die("a read brought something else");
}

/* --- Jobs --- */

struct result {
	uint64_t requests, ticks, notifications;
};

/* Until so many requests are done, or, where that is 0, for so long. All of them have come back when this returns. */
static struct result run(const struct job *job, uint64_t requests, uint64_t ticks)
{
	uint64_t start = rdtsc(), now = start, last_seen = start;
	struct result result = { 0 };
	uint64_t pending = job->depth;
	int is_over = 0;

	for (uint64_t i = 0; i < job->depth; i++)
		begin_request(&slots[i], job);
	while (pending) {
		uint32_t written;
		int head;

		result.notifications += virtqueue_publish(&queue);
		while ((head = virtqueue_take(&queue, &written)) >= 0) {
			struct slot *slot = slot_of_head[head];

			check_request(slot, job);
			result.requests++;
			last_seen = now;
			if (requests ? result.requests + pending > requests : is_over)
				pending--;
			else
				begin_request(slot, job);
		}
		now = rdtsc();
		is_over = now - start >= ticks;
		if (now > last_seen + PATIENCE)
			die("no answer");
	}
	result.ticks = now - start;
	return result;
}

static void run_job(const struct job *job, uint64_t ticks)
{
	struct result result;

	next_block = 0;
	for (uint64_t i = 0; i < job->depth; i++) {
		slots[i].data = data + i * job->bytes;
		make_slot(&slots[i], job);
	}
	/* Whatever adapts, host and device, gets to know what is coming. */
	if (!job->requests)
		run(job, 0, ticks / 4);
	result = run(job, job->requests, ticks);
	for (uint64_t i = 0; i < job->depth; i++)
		virtqueue_free(&queue, slots[i].head);

	put("blk-bench: ");
	for (const char *at = job->word; at < job->word_end; at++)
		put((char[]){ *at, 0 });
	put(" requests ");
	put_number(result.requests);
	put(" ticks ");
	put_number(result.ticks);
	put(" notifications ");
	put_number(result.notifications);
	put("\n");
}

/* --- The command line --- */

static int skip(const char **text, const char *expected)
{
	const char *at = *text;

	while (*expected)
		if (*at++ != *expected++)
			return 0;
	*text = at;
	return 1;
}

static struct job parse_job(const char *word)
{
	struct job job = { .word = word };

	job.is_random = skip(&word, "rand");
	job.is_write = skip(&word, "write");
	if (!(job.is_write || skip(&word, "read")) || !skip(&word, ","))
		die("job: randread, randwrite, read or write?");
	job.bytes = parse_number(&word);
	if (skip(&word, ","))
		job.depth = parse_number(&word);
	job.word_end = word;
	if (skip(&word, ","))
		job.requests = parse_number(&word);
	if (!job.bytes || job.bytes % BLOCK || !job.depth || job.depth > DEPTH_MAX ||
	    job.bytes * job.depth > DATA_MAX || job.bytes > blocks * BLOCK)
		die("job: how many bytes, how many at a time?");
	return job;
}

void program(void)
{
	const char *ticks_word = command_line_word("ticks=", 0);
	const char *word = 0;
	uint64_t ticks = ticks_word ? parse_number(&ticks_word) : 0;

	if (!virtio_find(&disk, VIRTIO_ID_BLOCK, 0))
		die("no disk");
	virtio_negotiate(&disk, FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_RING_F_EVENT_IDX));
	virtqueue_init(&queue, &disk, 0, QUEUE_SIZE);
	virtio_start(&disk);
	blocks = (virtio_config32(&disk, 0) | (uint64_t)virtio_config32(&disk, 4) << 32) / (BLOCK / SECTOR);
	data = allocate(DATA_MAX, BLOCK);
	while ((word = command_line_word("job=", word))) {
		struct job job = parse_job(word);

		run_job(&job, ticks);
	}
	say("blk-bench: done");
}
