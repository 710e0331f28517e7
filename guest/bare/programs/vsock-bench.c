/*
 * What a virtio-vsock device does. Each job (bench.h) is a connection to the host's port 5000, whose first byte is the job's
 * first letter, by which the host knows what to do:
 *
 *   send      so many bytes at a time, which the host throws away; the last is done when the host has taken it
 *   receive   what the host sends for as long as it is listened to; a request is so many bytes
 *   ping      so many bytes, which the host sends back; the next go out when they are all there
 */
#include <linux/virtio_vsock.h>
#include "bench.h"
#include "memory.h"
#include "virtio.h"

#define HOST_CID 2
#define HOST_PORT 5000
#define FIRST_PORT 10000

#define RECEIVE_QUEUE 0
#define SEND_QUEUE 1
#define EVENT_QUEUE 2
#define QUEUE_SIZE 64
#define PAYLOAD_MAX 65536
#define HEADER sizeof(struct virtio_vsock_hdr)
/* What the host may send before it hears that it was taken, and how much is taken before it does. */
#define RECEIVE_WINDOW (1u << 20)
#define TELL_AFTER (RECEIVE_WINDOW / 4)

static struct virtio_device device;
static struct virtqueue receive_queue, send_queue;
static uint8_t *receive_buffer_of_head[QUEUE_SIZE];

/* Packets that are sent again and again: those that are free are on a stack. */
static struct slot {
	struct virtio_vsock_hdr *packet;
	uint16_t head;
} slots[QUEUE_SIZE], *slot_of_head[QUEUE_SIZE], *free_slots[QUEUE_SIZE];
static unsigned int slot_count, free_count;

static uint64_t guest_cid;

/* The connection. Counts run as those of the protocol, and come around at 2^32. */
static uint32_t port = FIRST_PORT;
static int is_connected, is_over;
static uint32_t sent, received, told;
static uint32_t host_window, host_taken;

static uint64_t notifications, last_seen;

/* --- Packets --- */

static void take_packet(const struct virtio_vsock_hdr *packet)
{
	if (packet->dst_port != port)
		return;
	host_window = packet->buf_alloc;
	host_taken = packet->fwd_cnt;
	switch (packet->op) {
	case VIRTIO_VSOCK_OP_RESPONSE:
		is_connected = 1;
		break;
	case VIRTIO_VSOCK_OP_RST:
		is_over = 1;
		break;
	case VIRTIO_VSOCK_OP_RW:
		received += packet->len;
		break;
	}
}

/* Shows the device what is new, and looks at what it has returned. Returns whether that was anything. */
static int poll(void)
{
	uint32_t written;
	int head, count = 0;

	notifications += virtqueue_publish(&send_queue) + virtqueue_publish(&receive_queue);
	while ((head = virtqueue_take(&send_queue, &written)) >= 0) {
		free_slots[free_count++] = slot_of_head[head];
		count++;
	}
	while ((head = virtqueue_take(&receive_queue, &written)) >= 0) {
		take_packet((struct virtio_vsock_hdr *)receive_buffer_of_head[head]);
		virtqueue_post(&receive_queue, head);
		count++;
	}
	return count;
}

/* The same, for somebody who waits: not for ever. */
static void wait_for_host(void)
{
	uint64_t now = rdtsc();

	if (poll())
		last_seen = now;
	else if (now > last_seen + PATIENCE)
		die("no answer");
}

static void send_packet(uint16_t op, uint32_t length, uint32_t flags)
{
	struct slot *slot;

	while (!free_count)
		wait_for_host();
	slot = free_slots[--free_count];
	*slot->packet = (struct virtio_vsock_hdr){
		.src_cid = guest_cid,
		.dst_cid = HOST_CID,
		.src_port = port,
		.dst_port = HOST_PORT,
		.len = length,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.flags = flags,
		.buf_alloc = RECEIVE_WINDOW,
		.fwd_cnt = received,
	};
	send_queue.ring.desc[slot->head].len = HEADER + length;
	virtqueue_post(&send_queue, slot->head);
	told = received;
	sent += length;
}

/* What the host has room for. */
static uint32_t credit(void)
{
	return host_window - (sent - host_taken);
}

static void send_data(uint32_t length)
{
	while (credit() < length && !is_over)
		wait_for_host();
	send_packet(VIRTIO_VSOCK_OP_RW, length, 0);
}

/* Data that has come is taken at once. */
static void tell_host(void)
{
	if (received - told >= TELL_AFTER)
		send_packet(VIRTIO_VSOCK_OP_CREDIT_UPDATE, 0, 0);
}

/* --- Connections --- */

static void connect_host(void)
{
	port++;
	is_connected = is_over = 0;
	sent = received = told = host_window = host_taken = 0;
	last_seen = rdtsc();
	send_packet(VIRTIO_VSOCK_OP_REQUEST, 0, 0);
	while (!is_connected && !is_over)
		wait_for_host();
	if (is_over)
		die("the host refuses the connection");
}

static void disconnect(void)
{
	send_packet(VIRTIO_VSOCK_OP_SHUTDOWN, 0, VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND);
	while (!is_over || free_count < slot_count)
		wait_for_host();
}

/* All that was sent is the host's. */
static void drain(void)
{
	send_packet(VIRTIO_VSOCK_OP_CREDIT_REQUEST, 0, 0);
	while (host_taken != sent && !is_over)
		wait_for_host();
}

/* --- Jobs --- */

static struct result run(const struct job *job, uint64_t requests, uint64_t ticks)
{
	struct result result = { 0 };
	int is_send = is_named(job->name, "send"), is_ping = is_named(job->name, "ping");
	uint64_t start, now, bytes = 0;
	uint32_t counted = 0;

	if (job->bytes > PAYLOAD_MAX)
		die("a request has 65536 bytes at most");
	if (!is_send && !is_ping && !is_named(job->name, "receive"))
		die("job: send, receive or ping");
	connect_host();
	for (unsigned int i = 0; i < slot_count; i++)
		((char *)(slots[i].packet + 1))[0] = job->name[0];
	send_data(1);
	notifications = 0;
	start = now = rdtsc();
	while (!is_over && (requests ? result.requests < requests : now - start < ticks)) {
		if (is_send) {
			send_data(job->bytes);
			poll();
			result.requests++;
		} else if (is_ping) {
			uint32_t wanted = received + job->bytes;

			send_data(job->bytes);
			while ((int32_t)(wanted - received) > 0 && !is_over)
				wait_for_host();
			result.requests++;
		} else {
			wait_for_host();
			bytes += (uint32_t)(received - counted);
			counted = received;
			result.requests = bytes / job->bytes;
		}
		tell_host();
		now = rdtsc();
	}
	if (is_send)
		drain();
	if (is_over)
		die("the host has ended the connection");
	result.ticks = rdtsc() - start;
	result.notifications = notifications;
	disconnect();
	return result;
}

static void make_buffers(void)
{
	for (uint32_t i = 0; i < receive_queue.ring.num; i++) {
		struct piece piece = { allocate(HEADER + PAYLOAD_MAX, 64), HEADER + PAYLOAD_MAX };
		uint16_t head = virtqueue_chain(&receive_queue, &piece, 0, 1);

		receive_buffer_of_head[head] = piece.address;
		virtqueue_post(&receive_queue, head);
	}
	slot_count = send_queue.ring.num;
	for (uint32_t i = 0; i < slot_count; i++) {
		struct piece piece = { allocate(HEADER + PAYLOAD_MAX, 64), HEADER + PAYLOAD_MAX };
		struct slot *slot = &slots[i];

		slot->packet = piece.address;
		slot->head = virtqueue_chain(&send_queue, &piece, 1, 0);
		slot_of_head[slot->head] = slot;
		free_slots[free_count++] = slot;
	}
}

void program(void)
{
	struct virtqueue event_queue;

	if (!virtio_find(&device, VIRTIO_ID_VSOCK, 0))
		die("no vsock");
	virtio_negotiate(&device, FEATURE(VIRTIO_RING_F_EVENT_IDX));
	virtqueue_init(&receive_queue, &device, RECEIVE_QUEUE, QUEUE_SIZE);
	virtqueue_init(&send_queue, &device, SEND_QUEUE, QUEUE_SIZE);
	virtqueue_init(&event_queue, &device, EVENT_QUEUE, QUEUE_SIZE);
	guest_cid = virtio_config32(&device, 0);
	make_buffers();
	virtio_start(&device);
	run_jobs(run);
	say("bench: done");
}
