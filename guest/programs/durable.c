/*
 * Writes numbered records to a file and says of each when it is on stable storage:
 *
 *   durable FILE [COUNT]
 *
 * A record is 4096 bytes that all tell its number. Each is written behind the last one, synced
 * (fdatasync), and then acknowledged on standard output as `durable: N`. A host that ends the
 * machine at any moment must find every record that was acknowledged.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define RECORD_SIZE 4096
#define WORDS (RECORD_SIZE / sizeof(uint32_t))

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

int main(int argc, char **argv)
{
	static uint32_t record[WORDS];
	uint32_t count = argc > 2 ? strtoul(argv[2], NULL, 10) : UINT32_MAX;
	int fd;

	if (argc < 2) {
		fprintf(stderr, "usage: durable FILE [COUNT]\n");
		return 2;
	}
	fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0)
		fail(argv[1]);
	for (uint32_t number = 1; number <= count; number++) {
		for (size_t i = 0; i < WORDS; i++)
			record[i] = number;
		if (write(fd, record, RECORD_SIZE) != RECORD_SIZE)
			fail("write");
		if (fdatasync(fd) != 0)
			fail("fdatasync");
		printf("durable: %u\n", number);
		fflush(stdout);
	}
	return 0;
}
