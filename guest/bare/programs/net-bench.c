/*
 * What a virtio-net device does. The jobs (bench.h), with the bytes of a frame and the frames at a time:
 *
 *   ping      echo requests to the host's kernel, so many under way; a request is done when its reply has come
 *   send      frames that the host's kernel counts and drops; done when the device has returned them
 *   sendtso   the same with segments of TCP that the host would have to cut: up to 64 KiB, dropped as well
 *   receive   frames that come in, COPIES for each that goes out: the host's kernel has them made (tc-mirred(8) of what is
 *             of type 0x88b6), so that no third program competes for CPUs; `at a time` is what goes out
 *
 * The link is a point to point one between 02:00:00:00:00:01, 10.1.0.1 (the host) and 02:00:00:00:00:02, 10.1.0.2.
 */
#include <linux/virtio_net.h>
#include "bench.h"
#include "memory.h"
#include "virtio.h"

#define QUEUE_SIZE 256
#define DEPTH_MAX 128
#define HEADER sizeof(struct virtio_net_hdr_v1)
#define ETHERNET 14
#define IP 20
#define TCP 20
#define ICMP 8
#define FRAME_MIN (ETHERNET + IP + ICMP)
#define FRAME_MAX 1514
#define SEGMENT_MAX (ETHERNET + 65535)
#define RECEIVE_BUFFER 2048

#define ETHERTYPE_IP 0x0800
/* For local experiments: what nobody listens to, and what comes back. */
#define ETHERTYPE_DROPPED 0x88b5
#define ETHERTYPE_COPIED 0x88b6
#define COPIES 16
#define PROTOCOL_ICMP 1
#define PROTOCOL_TCP 6
#define ECHO_REQUEST 8
#define HOST_ADDRESS 0x0a010001u
#define GUEST_ADDRESS 0x0a010002u
/* Of a network for documentation: a host that forwards nothing drops what goes there. */
#define NOWHERE_ADDRESS 0xc0000201u
#define ECHO_ID 0x4242

/* A frame to send, again and again. It is free when the device has returned it and its answers are there. */
struct slot {
	uint8_t *buffer;
	uint16_t head, sequence;
	int is_sent, answers_missing;
};

static struct virtio_device device;
static struct virtqueue receive_queue, send_queue;
static uint8_t *receive_buffer_of_head[QUEUE_SIZE];
static uint8_t *send_buffers;
static struct slot slots[DEPTH_MAX];
static struct slot *slot_of_head[QUEUE_SIZE];
static int is_ping, is_tso, is_receive;

/* --- Frames --- */

static void store16(uint8_t *at, uint16_t value)
{
	at[0] = value >> 8;
	at[1] = value;
}

static void store32(uint8_t *at, uint32_t value)
{
	store16(at, value >> 16);
	store16(at + 2, value);
}

static uint16_t load16(const uint8_t *at)
{
	return at[0] << 8 | at[1];
}

static uint16_t checksum(const uint8_t *at, uint64_t length)
{
	uint32_t sum = 0;

	for (; length > 1; length -= 2, at += 2)
		sum += load16(at);
	if (length)
		sum += *at << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static void make_ethernet(uint8_t *frame, uint16_t type)
{
	store32(frame, 0x02000000);
	store16(frame + 4, 1);
	store32(frame + 6, 0x02000000);
	store16(frame + 10, 2);
	store16(frame + 12, type);
}

static void make_ip(uint8_t *ip, uint64_t length, uint8_t protocol, uint32_t target)
{
	ip[0] = 0x45;
	store16(ip + 2, length);
	ip[8] = 64;
	ip[9] = protocol;
	store32(ip + 12, GUEST_ADDRESS);
	store32(ip + 16, target);
	store16(ip + 10, 0);
	store16(ip + 10, checksum(ip, IP));
}

/* The sequence number changes: so does the checksum, by as much (RFC 1624). */
static void set_sequence(struct slot *slot, uint16_t sequence)
{
	uint8_t *icmp = slot->buffer + HEADER + ETHERNET + IP;
	uint32_t sum = (uint16_t)~load16(icmp + 2) + (uint16_t)~load16(icmp + 6) + sequence;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	store16(icmp + 2, ~sum);
	store16(icmp + 6, sequence);
	slot->sequence = sequence;
}

static void make_frame(struct slot *slot, const struct job *job)
{
	struct virtio_net_hdr_v1 *header = (struct virtio_net_hdr_v1 *)slot->buffer;
	uint8_t *frame = slot->buffer + HEADER, *ip = frame + ETHERNET;
	uint64_t ip_length = job->bytes - ETHERNET;

	memset(slot->buffer, 0, HEADER + job->bytes);
	if (is_ping) {
		make_ethernet(frame, ETHERTYPE_IP);
		make_ip(ip, ip_length, PROTOCOL_ICMP, HOST_ADDRESS);
		ip[IP] = ECHO_REQUEST;
		store16(ip + IP + 4, ECHO_ID);
		store16(ip + IP + 2, checksum(ip + IP, ip_length - IP));
		set_sequence(slot, slot - slots);
	} else if (is_tso) {
		make_ethernet(frame, ETHERTYPE_IP);
		make_ip(ip, ip_length, PROTOCOL_TCP, NOWHERE_ADDRESS);
		ip[IP + 12] = TCP / 4 << 4;
		header->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		header->gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
		header->hdr_len = ETHERNET + IP + TCP;
		header->gso_size = FRAME_MAX - header->hdr_len;
		header->csum_start = ETHERNET + IP;
		header->csum_offset = 16;
	} else {
		make_ethernet(frame, is_receive ? ETHERTYPE_COPIED : ETHERTYPE_DROPPED);
		store16(ip, slot - slots);
	}
}

/* --- Jobs --- */

static void begin_request(struct slot *slot)
{
	slot->is_sent = 0;
	slot->answers_missing = is_ping ? 1 : is_receive ? COPIES : 0;
	if (is_ping)
		set_sequence(slot, slot->sequence + DEPTH_MAX);
	virtqueue_post(&send_queue, slot->head);
}

static void prepare(const struct job *job)
{
	uint64_t bytes_max;

	is_ping = is_named(job->name, "ping");
	is_tso = is_named(job->name, "sendtso");
	is_receive = is_named(job->name, "receive");
	if (!is_ping && !is_tso && !is_receive && !is_named(job->name, "send"))
		die("job: ping, send, sendtso or receive?");
	if (is_tso && !(device.features & FEATURE(VIRTIO_NET_F_HOST_TSO4)))
		die("the device does not cut segments");
	bytes_max = is_tso ? SEGMENT_MAX : FRAME_MAX;
	if (job->bytes < FRAME_MIN || job->bytes > bytes_max || job->depth > DEPTH_MAX)
		die("job: how many bytes, how many at a time?");
	for (uint64_t i = 0; i < job->depth; i++) {
		struct slot *slot = &slots[i];
		struct piece piece;

		slot->buffer = send_buffers + i * (HEADER + SEGMENT_MAX);
		piece = (struct piece){ slot->buffer, HEADER + job->bytes };
		make_frame(slot, job);
		slot->head = virtqueue_chain(&send_queue, &piece, 1, 0);
		slot_of_head[slot->head] = slot;
		begin_request(slot);
	}
}

/* The slot that a frame answers; 0 where it answers none. */
static struct slot *answered_slot(const uint8_t *frame, uint32_t length)
{
	const uint8_t *ip = frame + ETHERNET, *icmp = ip + IP;
	struct slot *slot = 0;

	if (length < FRAME_MIN)
		return 0;
	if (is_receive && load16(frame + 12) == ETHERTYPE_COPIED) {
		slot = &slots[load16(ip) % DEPTH_MAX];
	} else if (is_ping && load16(frame + 12) == ETHERTYPE_IP && ip[9] == PROTOCOL_ICMP && !icmp[0] &&
		   load16(icmp + 4) == ECHO_ID) {
		slot = &slots[load16(icmp + 6) % DEPTH_MAX];
		if (slot->sequence != load16(icmp + 6))
			return 0;
	}
	return slot && slot->answers_missing ? slot : 0;
}

/* Counts the answers that have come. The buffers go back to the device. */
static uint64_t take_answers(void)
{
	uint64_t count = 0;
	uint32_t written;
	int head;

	while ((head = virtqueue_take(&receive_queue, &written)) >= 0) {
		struct slot *slot = answered_slot(receive_buffer_of_head[head] + HEADER, written - HEADER);

		if (slot) {
			slot->answers_missing--;
			count++;
		}
		virtqueue_post(&receive_queue, head);
	}
	return count;
}

/* Counts what the device has sent. */
static uint64_t take_sent(void)
{
	uint64_t count = 0;
	uint32_t written;
	int head;

	while ((head = virtqueue_take(&send_queue, &written)) >= 0) {
		slot_of_head[head]->is_sent = 1;
		count++;
	}
	return count;
}

static struct result run(const struct job *job, uint64_t requests, uint64_t ticks)
{
	struct result result = { 0 };
	uint64_t pending = job->depth, start, now, last_seen;
	int is_over = 0;

	prepare(job);
	start = now = last_seen = rdtsc();
	while (pending) {
		uint64_t answers, sent;

		result.notifications += virtqueue_publish(&send_queue) + virtqueue_publish(&receive_queue);
		answers = take_answers();
		sent = take_sent();
		result.requests += is_ping || is_receive ? answers : sent;
		if (answers + sent)
			last_seen = now;
		is_over = requests ? result.requests + pending > requests : now - start >= ticks;
		for (uint64_t i = 0; answers + sent && i < job->depth; i++) {
			struct slot *slot = &slots[i];

			if (!slot->is_sent || slot->answers_missing)
				continue;
			if (!is_over) {
				begin_request(slot);
			} else {
				virtqueue_free(&send_queue, slot->head);
				slot->is_sent = 0;
				pending--;
			}
		}
		now = rdtsc();
		if (now > last_seen + PATIENCE)
			die("no answer");
	}
	result.ticks = now - start;
	return result;
}

static void post_receive_buffers(void)
{
	for (uint32_t i = 0; i < receive_queue.ring.num; i++) {
		struct piece piece = { allocate(RECEIVE_BUFFER, RECEIVE_BUFFER), RECEIVE_BUFFER };
		uint16_t head = virtqueue_chain(&receive_queue, &piece, 0, 1);

		receive_buffer_of_head[head] = piece.address;
		virtqueue_post(&receive_queue, head);
	}
}

void program(void)
{
	if (!virtio_find(&device, VIRTIO_ID_NET, 0))
		die("no network");
	virtio_negotiate(&device, FEATURE(VIRTIO_RING_F_EVENT_IDX) | FEATURE(VIRTIO_NET_F_CSUM) |
					  FEATURE(VIRTIO_NET_F_HOST_TSO4));
	virtqueue_init(&receive_queue, &device, 0, QUEUE_SIZE);
	virtqueue_init(&send_queue, &device, 1, QUEUE_SIZE);
	send_buffers = allocate(DEPTH_MAX * (HEADER + SEGMENT_MAX), 4096);
	virtio_start(&device);
	post_receive_buffers();
	virtqueue_publish(&receive_queue);
	run_jobs(run);
	say("bench: done");
}
