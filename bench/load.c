/* A closed-loop load generator: one thread, epoll, HTTP/1.1, loopback only.
 *
 *     load -p PORT -c CONNECTIONS -w WARM_S -s SECONDS [-n COUNT] [-o] [-P PID]... REQUEST_FILE...
 *
 * Each file is one whole HTTP request; they are sent in turn. Connections open one by one, spread over WARM_S seconds;
 * what is counted is what ends in the SECONDS after that (or until COUNT answers), and the CPU time of the given
 * processes in that very window; failures count from the start. Then a second is given to what is under way. Prints one
 * JSON object.
 *
 * With -o a connection obeys: after a 429 or 503 that has a Retry-After it rests for so long before it asks again, as SDKs
 * do. Those answers are counted as shed, not as refused or failed.
 *
 * Latency runs from the first byte sent to the last received, time to first token to the end of the first event that has
 * data. A 2xx stream without its end ([DONE], message_stop) is a failed answer.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FILES = 64, MAX_PIDS = 256, HEAD = 8192, LINE = 24, BATCH = 256, READ = 262144, DRAIN_US = 1000000 };
enum state { IN_HEAD, IN_BODY, IN_CHUNK_SIZE, IN_CHUNK, AFTER_CHUNK, IN_TRAILER };

struct connection {
    int fd, status, is_stream, is_whole, closes;
    enum state state;
    long left; /* bytes of the body or chunk still to come */
    uint64_t began, first_event, rests_until; /* 0: it does not rest */
    size_t head_size, line_size; /* line_size: of the stream's line so far, LINE at most are kept */
    int has_data;                /* the event under way has a data line */
    char head[HEAD + 1], line[LINE + 1];
};

struct samples {
    uint32_t *us;
    size_t count, room;
};

struct tally {
    size_t ok, refused, failed, shed, events;
    uint64_t cpu_ns;
};

static struct sockaddr_in target;
static struct { char *bytes; size_t size; } requests[MAX_FILES];
static int request_count, poller;
static size_t sent, busy, resting; /* requests sent so far; connections that are open; of them, those that rest */
static struct tally total;
static struct samples latency, first_event, shed_latency;
static int counting, stopping, obeys;
static clockid_t clocks[MAX_PIDS];
static int clock_count;

static void die(const char *what) { perror(what), exit(1); }

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Of all processes that are watched, to the nanosecond, their threads included. */
static uint64_t cpu_ns(void) {
    uint64_t sum = 0;
    for (int i = 0; i < clock_count; i++) {
        struct timespec t;
        if (clock_gettime(clocks[i], &t)) die("load: a watched process is gone");
        sum += (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
    }
    return sum;
}

static void keep(struct samples *of, uint64_t us) {
    if (of->count == of->room) {
        of->room = of->room ? 2 * of->room : 4096;
        if (!(of->us = realloc(of->us, of->room * sizeof *of->us))) die("load: memory");
    }
    of->us[of->count++] = (uint32_t)us;
}

/* --- one connection --- */

static void ask(struct connection *c) {
    int which = (int)(sent++ % (size_t)request_count);
    c->state = IN_HEAD, c->head_size = c->line_size = 0, c->first_event = 0, c->has_data = c->is_whole = 0;
    c->began = now_us();
    if (send(c->fd, requests[which].bytes, requests[which].size, MSG_NOSIGNAL) != (ssize_t)requests[which].size)
        shutdown(c->fd, SHUT_RDWR); /* reading will say so */
}

static void dial(struct connection *c) {
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&target, sizeof target)) die("load: connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &want);
    ask(c);
}

static void next(struct connection *c, int reconnect) {
    if (reconnect || stopping) close(c->fd);
    if (stopping) busy--;
    else if (reconnect) dial(c);
    else ask(c);
}

static void wake(struct connection *c) { c->rests_until = 0, resting--, next(c, c->closes); }

static void answered(struct connection *c) {
    uint64_t took = now_us() - c->began;
    const char *after = obeys && (c->status == 429 || c->status == 503) ? strcasestr(c->head, "\r\nretry-after:") : NULL;
    if (after) {
        total.shed++;
        if (counting) keep(&shed_latency, took);
        c->rests_until = now_us() + (uint64_t)(atof(after + 14) * 1e6), resting++;
        if (stopping) wake(c);
        return;
    }
    if (c->status / 100 == 4) total.refused++;
    else if (c->status / 100 != 2 || (c->is_stream && !c->is_whole)) total.failed++;
    else {
        total.ok++;
        if (counting) keep(&latency, took);
    }
    next(c, c->closes);
}

static void end_of_line(struct connection *c) {
    c->line[c->line_size < LINE ? c->line_size : LINE] = 0;
    if (c->line_size == 0) {
        if (c->has_data && !c->first_event) {
            c->first_event = now_us();
            if (counting) keep(&first_event, c->first_event - c->began);
        }
        total.events += (size_t)c->has_data;
        c->has_data = 0;
    } else if (!strncmp(c->line, "data:", 5)) {
        c->has_data = 1;
        if (strstr(c->line, "[DONE]")) c->is_whole = 1;
    } else if (!strncmp(c->line, "event: message_stop", 19)) c->is_whole = 1;
    c->line_size = 0;
}

/* Part of a body: the lines of a stream are looked at, all else is only received. */
static void content(struct connection *c, const char *at, long size) {
    for (const char *end = at + size; c->is_stream && at < end; at++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((stop ? stop : end) - at);
        if (c->line_size < LINE) memcpy(c->line + c->line_size, at, length < LINE - c->line_size ? length : LINE - c->line_size);
        c->line_size += length;
        if (!stop) return;
        if (length && stop[-1] == '\r') c->line_size--;
        end_of_line(c), at = stop;
    }
}

/* Read the head, which is whole. -1: an answer that cannot be followed. */
static int head(struct connection *c) {
    const char *length = strcasestr(c->head, "\r\ncontent-length:");
    c->status = c->head_size > 12 ? atoi(c->head + 9) : 0;
    c->closes = strcasestr(c->head, "\r\nconnection: close") != NULL;
    c->is_stream = strcasestr(c->head, "\r\ncontent-type: text/event-stream") != NULL;
    if (strcasestr(c->head, "\r\ntransfer-encoding: chunked")) c->state = IN_CHUNK_SIZE, c->left = 0;
    else if (length) c->state = IN_BODY, c->left = atol(length + 17);
    else return -1;
    return 0;
}

/* One step through what has been read; returns how many bytes it took, -1 for nonsense. Sets *done at the end. */
static long step(struct connection *c, const char *at, long size, int *done) {
    long n = size < c->left ? size : c->left;
    switch (c->state) {
    case IN_HEAD:
        if (c->head_size == HEAD) return -1;
        c->head[c->head_size++] = *at, c->head[c->head_size] = 0;
        if (*at == '\n' && c->head_size > 4 && !strcmp(c->head + c->head_size - 4, "\r\n\r\n")) {
            if (head(c)) return -1;
            *done = c->state == IN_BODY && !c->left;
        }
        return 1;
    case IN_BODY:
    case IN_CHUNK:
        content(c, at, n);
        if (!(c->left -= n)) *done = c->state == IN_BODY, c->state = AFTER_CHUNK;
        return n;
    case IN_CHUNK_SIZE:
        if (*at == '\n') c->state = c->left ? IN_CHUNK : IN_TRAILER;
        else if (*at != '\r') c->left = c->left * 16 + (*at <= '9' ? *at - '0' : (*at | 32) - 'a' + 10);
        return 1;
    case AFTER_CHUNK:
        if (*at == '\n') c->state = IN_CHUNK_SIZE, c->left = 0;
        return 1;
    case IN_TRAILER: *done = *at == '\n'; return 1;
    }
    return -1;
}

static void receive(struct connection *c) {
    static char bytes[READ];
    ssize_t size = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN) return;
    int done = 0;
    long took = size > 0 ? 0 : -1;
    for (long at = 0; took >= 0 && at < size && !done; at += took) took = step(c, bytes + at, size - at, &done);
    if (done) answered(c);
    else if (took < 0 && c->rests_until) resting--, c->rests_until = 0, next(c, 1); /* hung up on while it rested */
    else if (took < 0) total.failed++, next(c, 1);
}

/* --- the run --- */

static void read_request(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file || request_count == MAX_FILES) die(path);
    char *bytes = malloc(1 << 20);
    requests[request_count].bytes = bytes;
    requests[request_count++].size = fread(bytes, 1, 1 << 20, file);
    fclose(file);
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void print_samples(const char *name, struct samples *of) {
    if (!of->count) { printf(", \"%s\": null", name); return; }
    qsort(of->us, of->count, sizeof *of->us, by_size);
    printf(", \"%s\": {\"count\": %zu, \"p50\": %u, \"p99\": %u, \"max\": %u}", name, of->count,
           of->us[(of->count - 1) / 2], of->us[(of->count - 1) * 99 / 100], of->us[of->count - 1]);
}

static void wait_for_answers(int at_most_ms) {
    struct epoll_event happened[BATCH];
    int n = epoll_wait(poller, happened, BATCH, at_most_ms);
    for (int i = 0; i < n; i++) receive(happened[i].data.ptr);
}

int main(int count, char **arguments) {
    size_t connections = 1, at_most = 0;
    double warm = 0, seconds = 1;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    target.sin_family = AF_INET, target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int option; (option = getopt(count, arguments, "p:c:w:s:n:P:o")) > 0;) switch (option) {
        case 'p': target.sin_port = htons((uint16_t)atoi(optarg)); break;
        case 'c': connections = (size_t)atol(optarg); break;
        case 'w': warm = atof(optarg); break;
        case 's': seconds = atof(optarg); break;
        case 'o': obeys = 1; break;
        case 'n': at_most = (size_t)atol(optarg); break;
        case 'P':
            if (clock_count == MAX_PIDS || (errno = clock_getcpuclockid(atoi(optarg), &clocks[clock_count++]))) die(optarg);
            break;
        default: return 2;
    }
    for (; optind < count; optind++) read_request(arguments[optind]);
    if (!request_count || !connections) { fprintf(stderr, "load: no request file, or no connections\n"); return 2; }
    poller = epoll_create1(0);
    struct connection *all = calloc(connections, sizeof *all);

    uint64_t began = now_us(), warm_us = (uint64_t)(warm * 1e6), until = began + warm_us + (uint64_t)(seconds * 1e6);
    struct tally before = {0};
    uint64_t counted_from = 0, now;
    while ((now = now_us()) < until && !(at_most && total.ok + total.refused + total.failed >= at_most)) {
        while (busy < connections && now >= began + warm_us * busy / connections) dial(&all[busy++]);
        if (!counting && now >= began + warm_us) {
            counting = 1, counted_from = now;
            before = total, before.cpu_ns = cpu_ns();
        }
        wait_for_answers(1);
        for (size_t i = 0; resting && i < busy; i++)
            if (all[i].rests_until && all[i].rests_until <= now) wake(&all[i]);
    }
    total.cpu_ns = cpu_ns();
    struct tally counted = total;
    double lasted = (double)(now - counted_from) / 1e6;
    counting = 0, stopping = 1;
    for (size_t i = 0, open = busy; resting && i < open; i++)
        if (all[i].rests_until) wake(&all[i]);
    for (uint64_t end = now + DRAIN_US; busy && now_us() < end;) wait_for_answers(10);

    printf("{\"seconds\": %.6f, \"ok\": %zu, \"refused\": %zu, \"failed\": %zu, \"shed\": %zu, \"events\": %zu, \"cpu_us\": ",
           lasted, counted.ok - before.ok, counted.refused - before.refused, counted.failed, counted.shed - before.shed,
           counted.events - before.events);
    if (clock_count) printf("%.1f", (double)(counted.cpu_ns - before.cpu_ns) / 1e3);
    else printf("null");
    print_samples("latency_us", &latency), print_samples("first_event_us", &first_event);
    print_samples("shed_latency_us", &shed_latency);
    printf("}\n");
    return 0;
}
