/*
 * Keeps a disk, a network and the clocks busy, each in a process of its own, and says how far it has come:
 *
 *   busy DISK INTERFACE
 *
 * - `disk N`: record N is on stable storage: 4096 bytes that all tell N, at N modulo 64 of the disk; the
 *   one before is read back each time, past the page cache.
 * - `net N`: frame N came back: sent to everybody with the Ethernet type for experiments (IEEE 802, 88b5).
 * - `time N`: slept N times for ten milliseconds, and no clock went back.
 *
 * What is not as it must be is said in a line that begins with `bad`.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RECORD_SIZE 4096
#define RECORDS 64
#define ETHERNET_TYPE 0x88b5
#define FRAME_SIZE 60
#define HEADER_SIZE 14
/* A host that is busy takes its time. */
#define ANSWER_MS 20000
#define TICK_NS 10000000

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* One write, so that lines of several processes do not mix. */
static void say(const char *what, uint32_t number)
{
	char line[32];
	int length = snprintf(line, sizeof(line), "%s %u\n", what, number);

	if (write(1, line, length) != length)
		fail("write");
}

static void disk(const char *path)
{
	static uint32_t record[RECORD_SIZE / sizeof(uint32_t)] __attribute__((aligned(RECORD_SIZE)));
	int fd = open(path, O_RDWR | O_DIRECT | O_DSYNC);

	if (fd < 0)
		fail(path);
	for (uint32_t number = 1;; number++) {
		off_t before = (off_t)((number - 1) % RECORDS) * RECORD_SIZE;
		off_t here = (off_t)(number % RECORDS) * RECORD_SIZE;

		if (number > 1) {
			if (pread(fd, record, RECORD_SIZE, before) != RECORD_SIZE)
				fail("read");
			for (size_t i = 0; i < RECORD_SIZE / sizeof(uint32_t); i++)
				if (record[i] != number - 1) {
					say("bad disk", number);
					break;
				}
		}
		for (size_t i = 0; i < RECORD_SIZE / sizeof(uint32_t); i++)
			record[i] = number;
		if (pwrite(fd, record, RECORD_SIZE, here) != RECORD_SIZE)
			fail("write");
		say("disk", number);
	}
}

static void net(const char *interface)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETHERNET_TYPE),
		.sll_ifindex = if_nametoindex(interface),
	};
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETHERNET_TYPE));

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail(interface);
	for (uint32_t number = 1;; number++) {
		uint8_t frame[FRAME_SIZE] = { [0 ... 5] = 0xff, [6] = 0x02, [12] = 0x88, [13] = 0xb5 };
		struct pollfd there = { .fd = fd, .events = POLLIN };
		uint32_t answer = 0;

		memcpy(frame + HEADER_SIZE, &number, sizeof(number));
		if (write(fd, frame, FRAME_SIZE) != FRAME_SIZE)
			fail("send");
		while (answer < number) {
			if (poll(&there, 1, ANSWER_MS) != 1 || read(fd, frame, FRAME_SIZE) != FRAME_SIZE) {
				say("bad net", number);
				break;
			}
			memcpy(&answer, frame + HEADER_SIZE, sizeof(answer));
		}
		say("net", number);
	}
}

static int64_t now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void clocks(void)
{
	const struct timespec tick = { .tv_nsec = TICK_NS };
	int64_t monotonic = now(CLOCK_MONOTONIC);
	int64_t real = now(CLOCK_REALTIME);

	for (uint32_t number = 1;; number++) {
		int64_t monotonic_before = monotonic;
		int64_t real_before = real;

		nanosleep(&tick, NULL);
		monotonic = now(CLOCK_MONOTONIC);
		real = now(CLOCK_REALTIME);
		if (monotonic < monotonic_before + TICK_NS)
			say("bad monotonic", number);
		if (real < real_before)
			say("bad real", number);
		say("time", number);
	}
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: busy DISK INTERFACE\n");
		return 2;
	}
	if (fork() == 0)
		disk(argv[1]);
	if (fork() == 0)
		net(argv[2]);
	clocks();
}
