/*
 * What a shared directory does, over virtio-fs (FUSE) or virtio-9p (9P2000.L), whichever there is: share.h says what has to be
 * in it. The jobs (bench.h):
 *
 *   read        the file from its beginning to its end, over and over
 *   randread    pieces of it, anywhere
 *   getattr     the attributes of the file, whose bytes do not matter; a request is a stat(2) of what is known
 *   lookup      of one name after another: found by its name, and its attributes; of as many names as there are `bytes`
 *
 * Each block of 4096 bytes of the file begins with its number.
 */
#include "bench.h"
#include "memory.h"
#include "share-9p.h"
#include "share-fuse.h"
#include "virtio.h"

#define QUEUE_SIZE 128
#define BLOCK 4096
#define DEPTH_MAX 16
#define DATA_MAX (4u << 20)

static struct slot {
	struct exchange exchange;
	uint8_t *data;
	/* Chains of a request and its reply, without and with data behind it; and which of them is under way. */
	uint16_t plain_head, read_head;
	uint64_t at;
	unsigned int step;
} slots[DEPTH_MAX], *slot_of_head[QUEUE_SIZE];

static struct virtio_device device;
static struct virtqueue queue;
static const struct protocol *protocol;
static uint8_t *data;
static uint64_t file_blocks, next;
static enum operation operation;
static int is_random;

/* --- Messages --- */

static void make_chains(struct slot *slot, uint32_t bytes)
{
	struct exchange *exchange = &slot->exchange;
	struct piece pieces[] = {
		{ exchange->request, MESSAGE_MAX }, { exchange->reply, MESSAGE_MAX }, { slot->data, bytes }
	};

	slot->plain_head = virtqueue_chain(&queue, pieces, 1, 1);
	slot->read_head = virtqueue_chain(&queue, pieces, 1, 2);
	slot_of_head[slot->plain_head] = slot_of_head[slot->read_head] = slot;
}

static void free_chains(struct slot *slot)
{
	virtqueue_free(&queue, slot->plain_head);
	virtqueue_free(&queue, slot->read_head);
}

static void post(struct slot *slot)
{
	struct exchange *exchange = &slot->exchange;
	uint16_t head = exchange->read_header ? slot->read_head : slot->plain_head;
	struct vring_desc *request = &queue.ring.desc[head];

	request->len = exchange->length;
	queue.ring.desc[request->next].len = exchange->read_header ? exchange->read_header : MESSAGE_MAX;
	exchange->reply[4] = 0xff;
	virtqueue_post(&queue, head);
}

/* The device is shown what was posted when it has nothing more to give: several requests at a time, where there are. */
static struct slot *wait_for_one(uint64_t *notifications)
{
	uint32_t written;
	int head = virtqueue_take(&queue, &written);

	if (head < 0) {
		uint64_t start = rdtsc();

		*notifications += virtqueue_publish(&queue);
		while ((head = virtqueue_take(&queue, &written)) < 0)
			if (rdtsc() > start + PATIENCE)
				die("no answer");
	}
	if (!protocol->is_good(&slot_of_head[head]->exchange))
		die("a request failed");
	return slot_of_head[head];
}

static void mount(void)
{
	struct slot *slot = &slots[0];
	uint64_t notifications = 0;

	slot->data = data;
	make_chains(slot, BLOCK);
	for (unsigned int step = 0; protocol->make_mount(&slot->exchange, step); step++) {
		post(slot);
		wait_for_one(&notifications);
		protocol->take_mount(&slot->exchange, step);
	}
	free_chains(slot);
}

/* --- Jobs --- */

static void begin_request(struct slot *slot, const struct job *job)
{
	uint64_t blocks = job->bytes / BLOCK;

	if (operation == OPERATION_LOOKUP) {
		slot->at = next++ % job->bytes;
	} else if (is_random) {
		slot->at = random_below(file_blocks / blocks) * job->bytes;
	} else {
		slot->at = next * BLOCK;
		next += blocks;
		if (next + blocks > file_blocks)
			next = 0;
	}
	slot->step = 0;
	if (operation == OPERATION_READ)
		for (uint64_t offset = 0; offset < job->bytes; offset += BLOCK)
			*(uint64_t *)(slot->data + offset) = ~0ull;
	protocol->make(&slot->exchange, operation, 0, slot->at, job->bytes);
	post(slot);
}

/* Whether there was one more message to the request. */
static int continue_request(struct slot *slot, const struct job *job)
{
	if (!protocol->make(&slot->exchange, operation, ++slot->step, slot->at, job->bytes))
		return 0;
	post(slot);
	return 1;
}

static void check_data(const struct slot *slot, const struct job *job)
{
	if (operation != OPERATION_READ)
		return;
	for (uint64_t offset = 0; offset < job->bytes; offset += BLOCK)
		if (*(uint64_t *)(slot->data + offset) != (slot->at + offset) / BLOCK)
			die("a read brought something else");
}

static void prepare(const struct job *job)
{
	is_random = is_named(job->name, "randread");
	operation = is_named(job->name, "getattr") ? OPERATION_ATTRIBUTES :
		    is_named(job->name, "lookup")  ? OPERATION_LOOKUP :
						     OPERATION_READ;
	if (operation == OPERATION_READ && !is_random && !is_named(job->name, "read"))
		die("job: read, randread, getattr or lookup?");
	if (operation == OPERATION_READ && (job->bytes % BLOCK || job->bytes > file_blocks * BLOCK))
		die("job: how many bytes?");
	if (job->depth > DEPTH_MAX || job->bytes * job->depth > DATA_MAX)
		die("job: how many at a time?");
	next = 0;
	for (uint64_t i = 0; i < job->depth; i++) {
		slots[i].exchange.index = i;
		slots[i].data = data + i * job->bytes;
		make_chains(&slots[i], job->bytes);
		begin_request(&slots[i], job);
	}
}

static struct result run(const struct job *job, uint64_t requests, uint64_t ticks)
{
	struct result result = { 0 };
	uint64_t pending = job->depth, start;

	prepare(job);
	start = rdtsc();
	while (pending) {
		struct slot *slot = wait_for_one(&result.notifications);

		if (continue_request(slot, job))
			continue;
		check_data(slot, job);
		result.requests++;
		if (requests ? result.requests + pending > requests : rdtsc() - start >= ticks) {
			free_chains(slot);
			pending--;
		} else {
			begin_request(slot, job);
		}
	}
	result.ticks = rdtsc() - start;
	return result;
}

void program(void)
{
	const char *blocks = command_line_word("blocks=", 0);
	struct virtqueue other;

	protocol = &fuse_protocol;
	if (!virtio_find(&device, protocol->device_id, 0)) {
		protocol = &p9_protocol;
		if (!virtio_find(&device, protocol->device_id, 0))
			die("no shared directory");
	}
	file_blocks = blocks ? parse_number(&blocks) : 0;
	virtio_negotiate(&device, FEATURE(VIRTIO_RING_F_EVENT_IDX));
	for (uint32_t i = 0; i < protocol->queue_count; i++)
		virtqueue_init(i == protocol->request_queue ? &queue : &other, &device, i, QUEUE_SIZE);
	virtio_start(&device);
	data = allocate(DATA_MAX, BLOCK);
	mount();
	run_jobs(run);
	say("bench: done");
}
