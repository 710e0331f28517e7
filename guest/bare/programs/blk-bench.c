/*
 * What a virtio-blk device does. The jobs (bench.h): read, write, randread, randwrite. Completions are polled for, no interrupt
 * is asked for, and what is read is checked.
 *
 * Every block of 4096 bytes of the disk begins with its own number, in 64 bits, and is left so.
 */
#include <linux/virtio_blk.h>
#include "bench.h"
#include "memory.h"
#include "virtio.h"

#define SECTOR 512
#define BLOCK 4096
#define QUEUE_SIZE 256
#define DEPTH_MAX 64
#define DATA_MAX (4 << 20)
/* The longest piece of a chain. */
#define PIECE_MAX (64 << 10)

struct slot {
	struct virtio_blk_outhdr header;
	uint8_t status;
	uint16_t head;
	uint64_t block;
	uint8_t *data;
};

static struct virtio_device disk;
static struct virtqueue queue;
static uint64_t blocks;
static uint8_t *data;
static int is_write, is_random;
static struct slot slots[DEPTH_MAX];
static struct slot *slot_of_head[QUEUE_SIZE];
static uint64_t next_block;

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
	slot->header.type = is_write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
	slot->head = virtqueue_chain(&queue, pieces, is_write ? count - 1 : 1, is_write ? 1 : count - 1);
	slot_of_head[slot->head] = slot;
}

static void begin_request(struct slot *slot, const struct job *job)
{
	uint64_t count = job->bytes / BLOCK;

	if (is_random) {
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
		*(uint64_t *)(slot->data + at) = is_write ? slot->block + at / BLOCK : ~0ull;
	virtqueue_post(&queue, slot->head);
}

static void check_request(const struct slot *slot, const struct job *job)
{
	if (slot->status != VIRTIO_BLK_S_OK)
		die("a request failed");
	if (is_write)
		return;
	for (uint64_t at = 0; at < job->bytes; at += BLOCK)
		if (*(uint64_t *)(slot->data + at) != slot->block + at / BLOCK)
			die("a read brought something else");
}

/* --- Jobs --- */

static void prepare(const struct job *job)
{
	is_random = is_named(job->name, "randread") || is_named(job->name, "randwrite");
	is_write = is_named(job->name, "write") || is_named(job->name, "randwrite");
	if (!is_random && !is_write && !is_named(job->name, "read"))
		die("job: randread, randwrite, read or write?");
	if (job->bytes % BLOCK || job->depth > DEPTH_MAX || job->bytes * job->depth > DATA_MAX ||
	    job->bytes > blocks * BLOCK)
		die("job: how many bytes, how many at a time?");
	next_block = 0;
	for (uint64_t i = 0; i < job->depth; i++) {
		slots[i].data = data + i * job->bytes;
		make_slot(&slots[i], job);
		begin_request(&slots[i], job);
	}
}

static struct result run(const struct job *job, uint64_t requests, uint64_t ticks)
{
	struct result result = { 0 };
	uint64_t pending = job->depth, start, now, last_seen;
	int is_over = 0;

	prepare(job);
	start = now = last_seen = rdtsc();
	while (pending) {
		uint32_t written;
		int head;

		result.notifications += virtqueue_publish(&queue);
		while ((head = virtqueue_take(&queue, &written)) >= 0) {
			struct slot *slot = slot_of_head[head];

			check_request(slot, job);
			result.requests++;
			last_seen = now;
			if (requests ? result.requests + pending > requests : is_over) {
				virtqueue_free(&queue, head);
				pending--;
			} else {
				begin_request(slot, job);
			}
		}
		now = rdtsc();
		is_over = now - start >= ticks;
		if (now > last_seen + PATIENCE)
			die("no answer");
	}
	result.ticks = now - start;
	return result;
}

void program(void)
{
	if (!virtio_find(&disk, VIRTIO_ID_BLOCK, 0))
		die("no disk");
	virtio_negotiate(&disk, FEATURE(VIRTIO_BLK_F_FLUSH) | FEATURE(VIRTIO_RING_F_EVENT_IDX));
	virtqueue_init(&queue, &disk, 0, QUEUE_SIZE);
	virtio_start(&disk);
	blocks = (virtio_config32(&disk, 0) | (uint64_t)virtio_config32(&disk, 4) << 32) / (BLOCK / SECTOR);
	data = allocate(DATA_MAX, BLOCK);
	run_jobs(run);
}
