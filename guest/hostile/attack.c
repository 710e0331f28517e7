/*
 * Attacks every virtio device of its machine: registers in any order, rings and descriptors of all kinds, doorbells,
 * resets under load, memory that changes while a device works, by this CPU and, where there is one, by another. In the end it
 * uses each device as a good driver does, says "attack: done", and quits with 0; 1 where a device does not work any more.
 *
 * attack.seed=N        what it does; default 1
 * attack.steps=N       how much; default 2000
 *
 * Needs 64 MiB. With one CPU a seed always does the same.
 */
#include "arena.h"
#include "boot.h"
#include "console.h"
#include "io.h"
#include "random.h"
#include "requests.h"
#include "second-cpu.h"
#include "virtio.h"

#define DEVICE_IDS 64
#define ANSWER_CYCLES 60000000000ull

static struct virtio_device devices[DEVICES_MAX];
static unsigned int device_count;
static uint64_t seed;

/* --- Registers --- */

static const uint16_t registers[] = {
	VIRTIO_MMIO_DEVICE_FEATURES_SEL, VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_MMIO_DRIVER_FEATURES_SEL,
	VIRTIO_MMIO_QUEUE_SEL, VIRTIO_MMIO_QUEUE_NUM, VIRTIO_MMIO_QUEUE_READY, VIRTIO_MMIO_QUEUE_NOTIFY,
	VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_STATUS, VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_DESC_HIGH,
	VIRTIO_MMIO_QUEUE_AVAIL_LOW, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, VIRTIO_MMIO_QUEUE_USED_LOW,
	VIRTIO_MMIO_QUEUE_USED_HIGH, VIRTIO_MMIO_SHM_SEL, VIRTIO_MMIO_CONFIG, 0x0c0,
};

static uint32_t below(uint32_t bound)
{
	return random_below(&seed, bound);
}

static void write_register(unsigned int device, uint32_t offset, uint32_t value)
{
	mmio_write32(devices[device].address + offset, value);
}

static struct queue_memory memory_of(unsigned int device, unsigned int queue)
{
	return queue_memory(device, devices[device].id, queue);
}

static uint32_t random_value(void)
{
	switch (below(4)) {
	case 0:
		return below(16);
	case 1:
		return 1u << below(32);
	case 2:
		return ARENA + below(DEVICES_MAX * DEVICE_BYTES);
	default:
		return next_random(&seed) >> 32;
	}
}

/* The descriptors of some queue; of a balloon's for a balloon, and for nothing else; or no RAM at all. */
static uint32_t random_descriptors(unsigned int device)
{
	unsigned int other = below(device_count);

	if (!below(4))
		return next_random(&seed) | 1u << 31;
	if ((devices[other].id == VIRTIO_ID_BALLOON) != (devices[device].id == VIRTIO_ID_BALLOON))
		other = device;
	return (uint64_t)memory_of(other, below(QUEUES_MAX)).descriptors;
}

/*
 * What a device may take for the address of a ring it writes to, or of descriptors, is as arena.h wants it: at the latest when it
 * gets its queue. Packed rings have descriptors of another form, and are not chosen: the bit is of no great use among the others.
 */
static uint32_t random_register_value(unsigned int device, uint32_t offset)
{
	switch (offset) {
	case VIRTIO_MMIO_DRIVER_FEATURES:
		return random_value() & ~(1u << (VIRTIO_F_RING_PACKED - 32));
	case VIRTIO_MMIO_QUEUE_READY:
		write_register(device, VIRTIO_MMIO_QUEUE_DESC_LOW, random_descriptors(device));
		write_register(device, VIRTIO_MMIO_QUEUE_USED_LOW, random_used_ring(&seed));
		return below(2);
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
		return random_descriptors(device);
	case VIRTIO_MMIO_QUEUE_USED_LOW:
		return random_used_ring(&seed);
	default:
		return random_value();
	}
}

static void attack_registers(unsigned int device)
{
	uint64_t address = devices[device].address;
	uint32_t offset = below(8) ? registers[below(sizeof(registers) / sizeof(*registers))] : below(0xff8);
	unsigned int kind = below(16);
	uint32_t value;

	if (kind == 2 || kind == 3)
		offset &= ~7u;
	value = random_register_value(device, offset);
	switch (kind) {
	case 0:
		*(volatile uint8_t *)(address + offset) = value;
		break;
	case 1:
		*(volatile uint16_t *)(address + offset) = value;
		break;
	case 2:
		*(volatile uint64_t *)(address + offset) = value;
		break;
	case 3:
		(void)*(volatile uint64_t *)(address + offset);
		break;
	default:
		mmio_write32(address + offset, value);
	}
}

static void attack_config(unsigned int device)
{
	uint64_t at = devices[device].address + VIRTIO_MMIO_CONFIG + below(80);

	if (below(2))
		*(volatile uint8_t *)at = below(4);
	else
		*(volatile uint32_t *)at = random_value();
}

/* --- Setting up --- */

static void set_up_queue(unsigned int device, unsigned int queue, uint32_t size)
{
	struct queue_memory memory = memory_of(device, queue);
	uint64_t address = devices[device].address;
	uint32_t size_max;

	write_register(device, VIRTIO_MMIO_QUEUE_SEL, queue);
	size_max = mmio_read32(address + VIRTIO_MMIO_QUEUE_NUM_MAX);
	if (!size_max)
		return;
	if (size_max > RING_SIZE_MAX)
		die("a queue is larger than its memory");
	memory.avail->idx = 0;
	memory.avail->flags = 0;
	write_register(device, VIRTIO_MMIO_QUEUE_NUM, size < size_max ? size : size_max);
	write_register(device, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint64_t)memory.descriptors);
	write_register(device, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint64_t)memory.avail);
	write_register(device, VIRTIO_MMIO_QUEUE_USED_LOW, (uint64_t)memory.used);
	write_register(device, VIRTIO_MMIO_QUEUE_READY, 1);
}

/* As a driver does, of the features offered all or some. */
static void set_up(unsigned int device)
{
	uint64_t features = below(3) ? ~0ull : next_random(&seed);

	if (!virtio_try_negotiate(&devices[device], features & ~FEATURE(VIRTIO_F_RING_PACKED)))
		virtio_negotiate(&devices[device], ~FEATURE(VIRTIO_F_RING_PACKED));
	for (unsigned int queue = 0; queue < QUEUES_MAX; queue++)
		set_up_queue(device, queue, below(8) ? RING_SIZE_MAX : 1u << below(9));
	virtio_start(&devices[device]);
}

static int is_running(unsigned int device)
{
	uint32_t status = mmio_read32(devices[device].address + VIRTIO_MMIO_STATUS);

	return (status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED)) ==
	       VIRTIO_CONFIG_S_DRIVER_OK;
}

/* --- Requests --- */

static void notify(unsigned int device, unsigned int queue)
{
	write_register(device, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
}

static void offer(struct queue_memory memory, uint16_t head)
{
	uint16_t index = memory.avail->idx;

	memory.avail->ring[index % RING_SIZE_MAX] = head;
	compiler_barrier();
	memory.avail->idx = index + 1;
}

/* A chain of a request, beginning at descriptor `first`, one of each eighth; now and then with a mistake. */
static unsigned int post_request(unsigned int device, unsigned int first)
{
	uint32_t count;
	const struct request *requests = requests_of(devices[device].id, &count);
	const struct request *request = &requests[below(count)];
	struct queue_memory memory = memory_of(device, request->queue);
	int is_indirect = !below(3);
	volatile struct vring_desc *table = is_indirect ? memory.tables : memory.descriptors + first;
	unsigned int base = is_indirect ? 0 : first, used = 0;
	volatile uint8_t *header = memory.headers + first % 64 * 64;

	for (unsigned int i = 0; i < request->header_bytes; i++)
		header[i] = ((const uint8_t *)request->header)[i];
	if (!below(4) && request->header_bytes && !memory.is_balloon)
		header[below(request->header_bytes)] = next_random(&seed);

	if (request->header_bytes)
		table[used++] = (struct vring_desc){ (uint64_t)header, request->header_bytes, VRING_DESC_F_NEXT, 0 };
	if (request->readable)
		table[used++] = (struct vring_desc){ random_buffer(&seed, memory), request->readable,
						     VRING_DESC_F_NEXT, 0 };
	if (request->writable)
		table[used++] = (struct vring_desc){ random_buffer(&seed, memory), request->writable,
						     VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 0 };
	table[used++] = (struct vring_desc){ random_buffer(&seed, memory), 1, VRING_DESC_F_WRITE, 0 };
	for (unsigned int i = 0; i < used; i++)
		table[i].next = base + i + 1;
	if (!below(4))
		random_descriptor(&seed, memory, table + below(used));
	if (is_indirect)
		memory.descriptors[first + TABLE_PLACE] = (struct vring_desc){ (uint64_t)table, used * sizeof(*table),
									       VRING_DESC_F_INDIRECT, 0 };
	offer(memory, is_indirect ? first + TABLE_PLACE : first);
	return request->queue;
}

static void attack_requests(unsigned int device)
{
	unsigned int queue = 0;

	if (!is_running(device))
		set_up(device);
	for (unsigned int i = 0, count = 1 + below(8); i < count; i++)
		queue = post_request(device, i * 8 % 64);
	if (below(8))
		notify(device, queue);
}

/* As many requests as fit, again and again, with a reset of queue or device in their midst. */
static void attack_load(unsigned int device)
{
	unsigned int queue = 0;

	set_up(device);
	for (unsigned int i = 0; i < 64; i++)
		queue = post_request(device, i % 32 * 8);
	notify(device, queue);
	if (below(2)) {
		write_register(device, VIRTIO_MMIO_QUEUE_SEL, queue);
		write_register(device, below(2) ? 0x0c0 : VIRTIO_MMIO_QUEUE_READY, below(2));
		set_up_queue(device, queue, RING_SIZE_MAX);
	} else {
		write_register(device, VIRTIO_MMIO_STATUS, 0);
	}
}

/* Descriptors of any kind: loops, tables in tables, what is nowhere. */
static void attack_rings(unsigned int device)
{
	unsigned int queue = below(4);
	struct queue_memory memory = memory_of(device, queue);

	if (!is_running(device))
		set_up(device);
	for (unsigned int i = 0, count = 1 + below(32); i < count; i++) {
		volatile struct vring_desc *table = below(2) ? memory.descriptors : memory.tables;

		random_descriptor(&seed, memory, table + below(below(4) ? 16 : RING_SIZE_MAX));
	}
	for (unsigned int i = 0, count = 1 + below(4); i < count; i++)
		offer(memory, below(8) ? below(16) : random_index(&seed));
	if (!below(8))
		memory.avail->idx = next_random(&seed);
	notify(device, queue);
}

/* Changes what the device is working on. */
static void scribble(uint64_t *state, unsigned int times)
{
	while (times--) {
		unsigned int device = random_below(state, device_count);
		struct queue_memory memory = memory_of(device, random_below(state, 4));
		volatile struct vring_desc *place = memory.descriptors + random_below(state, 64);

		switch (random_below(state, 8)) {
		case 0:
			memory.avail->idx += random_below(state, 3);
			break;
		case 1:
			memory.avail->ring[random_below(state, RING_SIZE_MAX)] = random_index(state);
			break;
		case 2:
			place->len = random_length_at(state, memory, place);
			break;
		case 3:
			place->next = random_index(state);
			break;
		case 4:
			place->flags ^= random_below(state, 2) ? VRING_DESC_F_NEXT : VRING_DESC_F_WRITE;
			break;
		case 5:
			random_descriptor(state, memory, memory.tables + random_below(state, 16));
			break;
		case 6:
			/* Types, lengths, positions. */
			if (!memory.is_balloon)
				memory.headers[random_below(state, 64) * 64 + random_below(state, 8) * 4] = next_random(state);
			break;
		default:
			memory.avail->flags ^= 1;
		}
	}
}

static void attack_race(unsigned int device)
{
	attack_requests(device);
	for (unsigned int i = 0, count = below(200); i < count; i++) {
		scribble(&seed, 100);
		if (!below(20))
			notify(device, below(4));
	}
}

static void attack_doorbells(unsigned int device)
{
	for (unsigned int i = 0, count = below(300); i < count; i++)
		notify(device, below(16) ? below(8) : random_value());
}

/* --- The other CPU --- */

static volatile int is_over;

static void second_cpu(void)
{
	uint64_t state = seed ^ 0x9e3779b97f4a7c15;

	for (;;) {
		if (!is_over)
			scribble(&state, 50);
		for (unsigned int i = 0, count = random_below(&state, 2000); i < count; i++)
			cpu_relax();
	}
}

/* --- The end --- */

/* A good driver's request, where one is known that is answered at once. */
static void check(unsigned int device)
{
	static uint8_t buffer[4096];
	static uint32_t header[4];
	struct piece pieces[] = { { header, sizeof(header) }, { buffer, 512 }, { buffer + 512, 1 } };
	int is_disk = devices[device].id == VIRTIO_ID_BLOCK;
	struct virtqueue queue;
	uint64_t begin;
	uint32_t length;

	virtio_negotiate(&devices[device], 0);
	if (!is_disk && devices[device].id != VIRTIO_ID_RNG) {
		virtio_start(&devices[device]);
		if (!is_running(device))
			die("a device does not run any more");
		return;
	}
	virtqueue_init(&queue, &devices[device], 0, 8);
	virtio_start(&devices[device]);
	buffer[512] = 0xee;
	virtqueue_post(&queue, is_disk ? virtqueue_chain(&queue, pieces, 1, 2) : virtqueue_chain(&queue, pieces + 1, 0, 1));
	virtqueue_publish(&queue);
	for (begin = rdtsc(); virtqueue_take(&queue, &length) < 0;)
		if (rdtsc() - begin > ANSWER_CYCLES)
			die("a device answers no more");
	if (is_disk ? buffer[512] != 0 || length != 513 : length == 0)
		die("a device does not work any more");
}

static uint64_t option(const char *word, uint64_t otherwise)
{
	const char *text = command_line_word(word, 0);

	return text ? parse_number(&text) : otherwise;
}

static void (*const attacks[])(unsigned int device) = {
	attack_registers, attack_registers, attack_registers, attack_config, attack_requests, attack_requests,
	attack_requests,  attack_rings,	    attack_rings,     attack_load,   attack_race,     attack_doorbells,
};

void program(void)
{
	uint64_t steps = option("attack.steps=", 2000);

	seed = option("attack.seed=", 1) * 0x9e3779b97f4a7c15 + 1;
	for (uint32_t id = 1; id < DEVICE_IDS; id++)
		for (unsigned int i = 0; device_count < DEVICES_MAX && virtio_find(&devices[device_count], id, i); i++)
			device_count++;
	if (!device_count)
		die("there is nothing to attack");
	for (unsigned int device = 0; device < device_count; device++)
		for (unsigned int queue = 0; queue < QUEUES_MAX; queue++)
			fill_descriptors(&seed, memory_of(device, queue));
	start_second_cpu(second_cpu);
	for (uint64_t step = 0; step < steps; step++)
		attacks[below(sizeof(attacks) / sizeof(*attacks))](below(device_count));
	is_over = 1;
	for (unsigned int device = 0; device < device_count; device++)
		check(device);
	put("attack: done, devices ");
	put_number(device_count);
	put("\n");
}
