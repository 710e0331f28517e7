/*
 * The first program of the test guest: tells the VMM that user space is reached, then does what the
 * kernel command line asks for and ends the virtual machine.
 *
 *   vmm.test=WORD[,WORD...]   run these, in this order, from the table at the end of this file
 *
 * Without the word it runs `shell` where there is a /bin/sh (busybox.cpio), else `hello`. After the
 * last word it powers off. It is process 1 of both initramfs images, and there it answers
 * the signals by which busybox's poweroff, reboot and halt ask for the end.
 *
 * No libc: the whole file is unpacked and loaded by a kernel that an interpreter may be running,
 * where every page costs a millisecond. So: raw system calls, static, no more than two pages.
 */
#include <asm/signal.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/reboot.h>
#include <linux/sysinfo.h>
#include <linux/time.h>
#include <linux/wait.h>
#include <stddef.h>
#include <stdint.h>

/* Ports of the VMM's debug device. */
#define BOOT_MARKER_PORT 0x3f0
#define BOOT_MARKER_USER_SPACE 123
#define EXIT_PORT 0xf4

#define TCSBRK 0x5409
#define TIOCSCTTY 0x540e

/* Up to four arguments; the fifth, mount's options, is always none. */
static long system_call(long number, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = 0;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
}

#define call(name, a, b, c, d) system_call(__NR_##name, (long)(a), (long)(b), (long)(c), (long)(d))

/* --- Text --- */

static size_t length(const char *text)
{
	size_t n = 0;

	while (text[n])
		n++;
	return n;
}

static int starts_with(const char *text, const char *prefix)
{
	while (*prefix)
		if (*text++ != *prefix++)
			return 0;
	return 1;
}

/* A line is collected and written at once: each write to a tty costs thousands of instructions. */
static char line[512];
static size_t line_length;

static void put(const char *text)
{
	while (*text && line_length < sizeof(line) - 1)
		line[line_length++] = *text++;
}

static void put_number(uint64_t number, int min_digits)
{
	char digits[21];
	int i = sizeof(digits) - 1;

	digits[i] = 0;
	do {
		digits[--i] = '0' + number % 10;
		number /= 10;
		min_digits--;
	} while (number || min_digits > 0);
	put(digits + i);
}

static void end_line(void)
{
	line[line_length++] = '\n';
	call(write, 1, line, line_length, 0);
	line_length = 0;
}

static void say(const char *text)
{
	put(text);
	end_line();
}

/* The length of what was read; the buffer ends in a NUL. */
static long read_file(const char *path, char *buffer, size_t size)
{
	long fd = call(open, path, O_RDONLY, 0, 0);
	long got = 0;

	if (fd >= 0) {
		got = call(read, fd, buffer, size - 1, 0);
		call(close, fd, 0, 0, 0);
	}
	if (got < 0)
		got = 0;
	buffer[got] = 0;
	return got;
}

/* --- The machine --- */

static void out_byte(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static void mount_on(const char *directory, const char *type)
{
	call(mkdir, directory, 0755, 0, 0);
	call(mount, type, directory, type, 0);
}

/* tcdrain(3): what a driver has yet to write, by interrupts that come when they come, a reset takes with it. */
static void drain_output(void)
{
	call(ioctl, 1, TCSBRK, 1, 0);
}

/*
 * There is no ACPI, so the kernel cannot power off: it would halt for ever. It can reset, through the
 * i8042 keyboard controller, which to a VMM is the end as well.
 */
static void power_off(void)
{
	drain_output();
	call(sync, 0, 0, 0, 0);
	call(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_RESTART, 0);
}

/* --- What can be asked for: each gets what stands behind `=`, or "" --- */

static void hello(const char *unused)
{
	char version[256];
	long n;

	(void)unused;
	n = read_file("/proc/version", version, sizeof(version));
	if (n && version[n - 1] == '\n')
		version[n - 1] = 0;
	say(version);
	say("init: reached user space");
}

/* The CPUs that are online, as the kernel's bit mask of them. */
struct cpu_set {
	uint64_t words[64];
	long bits;
};

static int has_cpu(const struct cpu_set *set, long cpu)
{
	return set->words[cpu / 64] >> (cpu % 64) & 1;
}

static void report_cpus(struct cpu_set *online)
{
	long count = 0;

	online->bits = 8 * call(sched_getaffinity, 0, sizeof(online->words), online->words, 0);
	for (long cpu = 0; cpu < online->bits; cpu++)
		count += has_cpu(online, cpu);
	put("init: cpus: ");
	put_number(count, 1);
	end_line();
}

static void report(const char *unused)
{
	struct cpu_set online;
	struct __kernel_timespec now;
	struct sysinfo info;

	(void)unused;
	report_cpus(&online);
	call(clock_gettime, CLOCK_BOOTTIME, &now, 0, 0);
	call(sysinfo, &info, 0, 0, 0);

	put("init: uptime: ");
	put_number(now.tv_sec, 1);
	put(".");
	put_number(now.tv_nsec / 1000000, 3);
	say(" s");
	put("init: memory: ");
	put_number(info.totalram * info.mem_unit >> 10, 1);
	say(" KiB");
}

/* Moves to every CPU in turn, and says where it then finds itself. */
static void smp(const char *unused)
{
	struct cpu_set online;

	(void)unused;
	report_cpus(&online);
	for (long cpu = 0; cpu < online.bits; cpu++) {
		uint64_t target[64] = { 0 };
		uint32_t found = ~0u;

		if (!has_cpu(&online, cpu))
			continue;
		target[cpu / 64] = 1ull << (cpu % 64);
		call(sched_setaffinity, 0, sizeof(target), target, 0);
		call(getcpu, &found, 0, 0, 0);
		put("init: runs on cpu ");
		put_number(found, 1);
		end_line();
	}
	call(sched_setaffinity, 0, sizeof(online.words), online.words, 0);
}

/* Answers each line of console input, until the line is `quit`. */
static void echo(const char *unused)
{
	char input[256];
	long n;

	(void)unused;
	say("init: echo");
	while ((n = call(read, 0, input, sizeof(input) - 1, 0)) > 0) {
		input[n] = 0;
		if (input[n - 1] == '\n')
			input[n - 1] = 0;
		if (starts_with(input, "quit"))
			return;
		put("echo: ");
		say(input);
	}
}

/* Sleeps for ever: a guest that has to be ended from outside. */
static void hang(const char *unused)
{
	(void)unused;
	for (;;)
		call(pause, 0, 0, 0, 0);
}

/* Computes for ever. */
static void spin(const char *unused)
{
	(void)unused;
	for (;;)
		__asm__ volatile("");
}

/* Leaves process 1, upon which the kernel panics. */
static void panic(const char *unused)
{
	(void)unused;
	call(exit_group, 1, 0, 0, 0);
}

/* exit=N writes N to the exit port. */
static void exit_port(const char *value)
{
	uint8_t status = 0;

	while (*value >= '0' && *value <= '9')
		status = status * 10 + (*value++ - '0');
	drain_output();
	out_byte(EXIT_PORT, status);
}

static void halt(const char *unused)
{
	(void)unused;
	call(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_HALT, 0);
}

/* The terminal that /dev/console stands for; the console itself cannot be a controlling terminal. */
static long open_console_tty(void)
{
	char names[128], path[160] = "/dev/";
	char *name = names;
	long n = read_file("/sys/class/tty/console/active", names, sizeof(names));
	size_t i;

	/* The kernel's preferred console stands last. */
	for (long at = 0; at < n; at++) {
		if (names[at] == '\n')
			names[at] = 0;
		else if (names[at] == ' ')
			name = names + at + 1;
	}
	for (i = 0; name[i]; i++)
		path[5 + i] = name[i];
	path[5 + i] = 0;
	return call(open, path, O_RDWR, 0, 0);
}

static void run_shell(void)
{
	static const char *const arguments[] = { "-sh", NULL };
	static const char *const environment[] = {
		"HOME=/root", "TERM=linux", "PATH=/sbin:/bin", "USER=root", "ENV=/etc/shrc", NULL,
	};
	uint64_t no_signals = 0;
	long tty;

	call(rt_sigprocmask, SIG_SETMASK, &no_signals, 0, sizeof(no_signals));
	call(setsid, 0, 0, 0, 0);
	tty = open_console_tty();
	if (tty >= 0) {
		call(ioctl, tty, TIOCSCTTY, 0, 0);
		for (long fd = 0; fd < 3; fd++)
			call(dup2, tty, fd, 0, 0);
		call(close, tty, 0, 0, 0);
	}
	call(chdir, "/root", 0, 0, 0);
	call(execve, "/bin/sh", arguments, environment, 0);
	say("init: cannot run /bin/sh");
	call(exit_group, 127, 0, 0, 0);
}

/* An interactive shell with job control; its end, poweroff, reboot and halt all power off. */
static void shell(const char *unused)
{
	/* Blocked signals stay pending for process 1, which would never see ignored ones. */
	uint64_t signals = 1ull << (SIGCHLD - 1) | 1ull << (SIGTERM - 1) | 1ull << (SIGUSR1 - 1) |
			   1ull << (SIGUSR2 - 1);
	long child;

	(void)unused;
	mount_on("/sys", "sysfs");
	mount_on("/dev", "devtmpfs");
	mount_on("/dev/pts", "devpts");
	mount_on("/tmp", "tmpfs");

	call(rt_sigprocmask, SIG_SETMASK, &signals, 0, sizeof(signals));
	child = call(fork, 0, 0, 0, 0);
	if (child == 0)
		run_shell();

	for (;;) {
		long signal = call(rt_sigtimedwait, &signals, 0, 0, sizeof(signals));
		long gone;

		if (signal == SIGTERM || signal == SIGUSR1 || signal == SIGUSR2)
			return;
		while ((gone = call(wait4, -1, 0, WNOHANG, 0)) > 0)
			if (gone == child)
				return;
	}
}

static const struct {
	const char *name;
	void (*run)(const char *value);
} tests[] = {
	{ "hello", hello },   { "report", report }, { "smp", smp },	{ "echo", echo }, { "hang", hang },
	{ "spin", spin },     { "panic", panic },   { "exit", exit_port }, { "halt", halt }, { "shell", shell },
};

/* `word` ends in a NUL or comma. */
static void run_test(const char *word)
{
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		size_t n = length(tests[i].name);
		char after;

		if (!starts_with(word, tests[i].name))
			continue;
		after = word[n];
		if (after == 0 || after == ',' || after == '=') {
			tests[i].run(after == '=' ? word + n + 1 : "");
			return;
		}
	}
	put("init: there is no test called ");
	say(word);
}

/* The value of the last `vmm.test=` on the kernel command line, or NULL. */
static const char *asked_for(char *command_line)
{
	static const char option[] = "vmm.test=";
	const char *found = NULL;
	int at_word = 1;

	for (char *at = command_line; *at; at++) {
		if (at_word && starts_with(at, option))
			found = at + sizeof(option) - 1;
		at_word = *at == ' ' || *at == '\n';
		if (at_word)
			*at = 0;
	}
	return found;
}

void run_init(void)
{
	static char command_line[4096];
	const char *word;

	call(iopl, 3, 0, 0, 0);
	out_byte(BOOT_MARKER_PORT, BOOT_MARKER_USER_SPACE);

	mount_on("/proc", "proc");
	read_file("/proc/cmdline", command_line, sizeof(command_line));
	word = asked_for(command_line);
	if (!word)
		word = call(access, "/bin/sh", 1, 0, 0) == 0 ? "shell" : "hello";

	while (*word) {
		run_test(word);
		while (*word && *word != ',')
			word++;
		if (*word)
			word++;
	}
	power_off();
}

/* The kernel enters here with an aligned stack, where a function expects a return address below. */
__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tcall run_init\n\tud2\n");
