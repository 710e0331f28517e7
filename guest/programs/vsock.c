/*
 * AF_VSOCK for a shell:
 *
 *   vsock cat PORT                      the host's port: standard input to it, what it sends to standard output
 *   vsock streams PORT COUNT BYTES      so many connections to the host at once, each with so many bytes, which
 *                                       the host sends back; prints how many came back as they were
 *   vsock echo PORT COUNT               accepts so many connections, then sends back what each sends
 *   vsock run PORT COUNT PROGRAM ARG... accepts connections, one after the other, and runs a program on each
 *
 * and for benches (bench/virtio-vsock.mjs), where the host knows by the first byte what it has to do:
 *
 *   vsock send PORT BYTES               an `s`, then so many bytes
 *   vsock receive PORT BYTES            an `r`, then reads so many, and prints how long it took, from the first of them on
 *   vsock ping PORT COUNT BYTES         a `p`, then so many bytes as often, each when those before have come back
 *
 * What listens prints `vsock: listening` when it does. Blocking and simple: the kernel below may be interpreted,
 * and every system call counts.
 */
#include <linux/vm_sockets.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int new_socket(void)
{
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0)
		fail("socket");
	return fd;
}

static int dial(uint32_t port)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port
	};
	/* By itself Linux waits for two seconds, in which a busy host may not have got round to it. */
	struct timeval patience = { .tv_sec = 120 };
	int fd = new_socket();

	setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		fail("connect");
	return fd;
}

static int listen_on(uint32_t port)
{
	struct sockaddr_vm address = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port
	};
	int fd = new_socket();

	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		fail("bind");
	if (listen(fd, 1024) != 0)
		fail("listen");
	printf("vsock: listening\n");
	fflush(stdout);
	return fd;
}

static int accept_one(int listener)
{
	int fd = accept(listener, NULL, NULL);

	if (fd < 0)
		fail("accept");
	return fd;
}

static void write_all(int fd, const uint8_t *bytes, size_t count)
{
	while (count > 0) {
		ssize_t done = write(fd, bytes, count);

		if (done < 0)
			fail("write");
		bytes += done;
		count -= done;
	}
}

/* Until the other side ends. */
static void copy(int from, int to)
{
	static uint8_t buffer[65536];
	ssize_t got;

	while ((got = read(from, buffer, sizeof(buffer))) > 0)
		write_all(to, buffer, got);
	if (got < 0)
		fail("read");
}

static int cat(uint32_t port)
{
	int fd = dial(port);
	pid_t reader = fork();

	/* Both ways at once: the host may stop reading until it is read from. */
	if (reader == 0) {
		copy(fd, 1);
		_exit(0);
	}
	copy(0, fd);
	shutdown(fd, SHUT_WR);
	waitpid(reader, NULL, 0);
	return 0;
}

/* The number of the stream, then bytes that depend on it and on where they stand. */
static void fill(uint8_t *bytes, uint32_t count, uint32_t stream)
{
	uint32_t value = 0x811c9dc5u ^ stream;

	for (uint32_t i = 0; i < count; i++) {
		value = (value ^ i) * 0x01000193u;
		bytes[i] = i < 4 ? stream >> (8 * i) : value >> 24;
	}
}

static int is_echoed(int fd, const uint8_t *bytes, uint32_t count)
{
	static uint8_t buffer[65536];
	uint32_t at = 0;
	ssize_t got;

	while ((got = read(fd, buffer, sizeof(buffer))) > 0) {
		if (at + got > count || memcmp(buffer, bytes + at, got) != 0)
			return 0;
		at += got;
	}
	return got == 0 && at == count;
}

static int streams(uint32_t port, uint32_t count, uint32_t size)
{
	int *fds = calloc(count, sizeof(*fds));
	uint8_t *bytes = malloc(size);
	uint32_t good = 0;

	for (uint32_t i = 0; i < count; i++)
		fds[i] = dial(port);
	for (uint32_t i = 0; i < count; i++) {
		fill(bytes, size, i);
		write_all(fds[i], bytes, size);
		shutdown(fds[i], SHUT_WR);
	}
	for (uint32_t i = 0; i < count; i++) {
		fill(bytes, size, i);
		good += is_echoed(fds[i], bytes, size);
		close(fds[i]);
	}
	printf("vsock: %u of %u streams came back\n", good, count);
	return good == count ? 0 : 1;
}

static int echo(uint32_t port, uint32_t count)
{
	int listener = listen_on(port);
	int *fds = calloc(count, sizeof(*fds));

	for (uint32_t i = 0; i < count; i++)
		fds[i] = accept_one(listener);
	for (uint32_t i = 0; i < count; i++) {
		copy(fds[i], fds[i]);
		close(fds[i]);
	}
	printf("vsock: echoed %u\n", count);
	return 0;
}

static int run(uint32_t port, uint32_t count, char **program)
{
	int listener = listen_on(port);

	while (count-- > 0) {
		int fd = accept_one(listener);

		if (fork() == 0) {
			dup2(fd, 0);
			dup2(fd, 1);
			execvp(program[0], program);
			_exit(127);
		}
		close(fd);
		wait(NULL);
	}
	return 0;
}

static int begin(uint32_t port, char letter)
{
	int fd = dial(port);

	write_all(fd, (const uint8_t *)&letter, 1);
	return fd;
}

/* The host has read all of it when it ends, too. */
static int finish(int fd)
{
	uint8_t byte;

	shutdown(fd, SHUT_WR);
	while (read(fd, &byte, 1) > 0)
		;
	close(fd);
	return 0;
}

static int send_bytes(uint32_t port, uint32_t count)
{
	static uint8_t buffer[65536];
	int fd = begin(port, 's');

	for (uint32_t done = 0; done < count; done += sizeof(buffer))
		write_all(fd, buffer, count - done < sizeof(buffer) ? count - done : sizeof(buffer));
	return finish(fd);
}

static int64_t microseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000ll + now.tv_nsec / 1000;
}

static int receive_bytes(uint32_t port, uint32_t count)
{
	static uint8_t buffer[65536];
	int fd = begin(port, 'r');
	int64_t start = 0;
	uint32_t done = 0;
	ssize_t got;

	while (done < count && (got = read(fd, buffer, sizeof(buffer))) > 0) {
		if (done == 0)
			start = microseconds();
		done += got;
	}
	printf("vsock: received %u bytes in %lld us\n", done, (long long)(microseconds() - start));
	close(fd);
	return 0;
}

static int ping(uint32_t port, uint32_t count, uint32_t size)
{
	static uint8_t buffer[65536];
	int fd = begin(port, 'p');

	if (size > sizeof(buffer))
		return 2;
	while (count-- > 0) {
		uint32_t missing = size;
		ssize_t got;

		write_all(fd, buffer, size);
		while (missing > 0 && (got = read(fd, buffer, missing)) > 0)
			missing -= got;
	}
	return finish(fd);
}

int main(int argc, char **argv)
{
	uint32_t numbers[3] = { 0 };

	for (int i = 0; i < 3 && i + 2 < argc; i++)
		numbers[i] = strtoul(argv[i + 2], NULL, 10);
	if (argc == 3 && strcmp(argv[1], "cat") == 0)
		return cat(numbers[0]);
	if (argc == 5 && strcmp(argv[1], "streams") == 0)
		return streams(numbers[0], numbers[1], numbers[2]);
	if (argc == 4 && strcmp(argv[1], "echo") == 0)
		return echo(numbers[0], numbers[1]);
	if (argc > 4 && strcmp(argv[1], "run") == 0)
		return run(numbers[0], numbers[1], argv + 4);
	if (argc == 4 && strcmp(argv[1], "send") == 0)
		return send_bytes(numbers[0], numbers[1]);
	if (argc == 4 && strcmp(argv[1], "receive") == 0)
		return receive_bytes(numbers[0], numbers[1]);
	if (argc == 5 && strcmp(argv[1], "ping") == 0)
		return ping(numbers[0], numbers[1], numbers[2]);
	fprintf(stderr, "usage: vsock cat PORT | streams PORT COUNT BYTES | echo PORT COUNT | run PORT COUNT PROGRAM ...\n"
			"       vsock send PORT BYTES | receive PORT BYTES | ping PORT COUNT BYTES\n");
	return 2;
}
