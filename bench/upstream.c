/* A provider that costs next to nothing: one thread, epoll, HTTP/1.1, loopback only.
 *
 *     upstream PORT        0: any free one; prints `port N` once it listens
 *
 * A path that ends in /messages speaks Anthropic, every other OpenAI. `"stream": true` gets server-sent events, one HTTP
 * chunk and one send each. The prompt may say how many and how fast, so that it works through any gateway unchanged:
 * `events=100 pace=50` is a hundred events, one every 50 ms; without a pace they go out as fast as they can. `after=100`
 * is a whole answer after 100 ms.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
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

enum { MAX_REQUEST = 65536, MAX_PACED = 8192, BATCH = 256, STUCK_MS = 5000 };

struct text {
    char bytes[4096];
    size_t size;
};

/* What one dialect says: a whole answer, and a stream's beginning, one event of it, and its end. */
struct dialect {
    struct text plain, opening, event, closing;
};

struct connection {
    int fd, place; /* place: index in `paced`, -1 if not there */
    long left; /* events still to send before the end; -1: nothing */
    uint64_t due, pace; /* us */
    const struct dialect *dialect;
    const struct text *last; /* what is sent when nothing is left */
    size_t size;
    char request[MAX_REQUEST + 1];
};

static struct dialect openai, anthropic;
static struct connection *paced[MAX_PACED];
static int paced_count;

static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* --- what is said --- */

static void add(struct text *to, const char *bytes) {
    size_t size = strlen(bytes);
    memcpy(to->bytes + to->size, bytes, size);
    to->size += size;
}

static void add_chunk(struct text *to, const char *event) {
    char head[32];
    snprintf(head, sizeof head, "%zx\r\n", strlen(event));
    add(to, head), add(to, event), add(to, "\r\n");
}

static void add_plain(struct text *to, const char *body) {
    char head[128];
    snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n", strlen(body));
    add(to, head), add(to, body);
}

#define STREAM_HEAD "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
#define ANSWER \
    "Lisbon is the capital of Portugal. It lies in the west of the country, where the river Tagus meets the Atlantic, " \
    "and it has been the seat of its kings and governments since the year 1255, with a pause in Rio de Janeiro. Ask " \
    "for more if you want to know about its hills, its trams or the earthquake of 1755."

static void speak_openai(struct dialect *d) {
#define CHUNK "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1767225600,\"model\":\"bench-chat\"," \
              "\"service_tier\":\"default\",\"choices\":["
    add_plain(&d->plain,
        "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1767225600,\"model\":\"bench-chat\",\"choices\":["
        "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"" ANSWER "\",\"refusal\":null},\"logprobs\":null,"
        "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":48,\"completion_tokens\":71,\"total_tokens\":119}}");
    add(&d->opening, STREAM_HEAD);
    add_chunk(&d->opening, CHUNK "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n");
    add_chunk(&d->event, CHUNK "{\"index\":0,\"delta\":{\"content\":\" word\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
    add_chunk(&d->closing, CHUNK "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n");
    add_chunk(&d->closing, CHUNK "],\"usage\":{\"prompt_tokens\":48,\"completion_tokens\":100,\"total_tokens\":148}}\n\n");
    add_chunk(&d->closing, "data: [DONE]\n\n");
    add(&d->closing, "0\r\n\r\n");
}

static void speak_anthropic(struct dialect *d) {
#define EVENT(kind, rest) "event: " kind "\ndata: {\"type\":\"" kind "\"" rest "}\n\n"
    add_plain(&d->plain,
        "{\"id\":\"msg_bench\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"bench-claude\",\"content\":[{\"type\":\"text\","
        "\"text\":\"" ANSWER "\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,"
        "\"usage\":{\"input_tokens\":48,\"output_tokens\":71}}");
    add(&d->opening, STREAM_HEAD);
    add_chunk(&d->opening, EVENT("message_start",
        ",\"message\":{\"id\":\"msg_bench\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"bench-claude\",\"content\":[],"
        "\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":48,\"output_tokens\":1}}"));
    add_chunk(&d->opening, EVENT("content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}"));
    add_chunk(&d->event, EVENT("content_block_delta", ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" word\"}"));
    add_chunk(&d->closing, EVENT("content_block_stop", ",\"index\":0"));
    add_chunk(&d->closing, EVENT("message_delta",
        ",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":100}"));
    add_chunk(&d->closing, EVENT("message_stop", ""));
    add(&d->closing, "0\r\n\r\n");
}

/* --- connections --- */

static void leave_paced(struct connection *c) {
    if (c->place < 0) return;
    paced[c->place] = paced[--paced_count];
    paced[c->place]->place = c->place;
    c->place = -1;
}

static void hang_up(struct connection *c) {
    leave_paced(c);
    close(c->fd);
    free(c);
}

/* 0: all of it is in the socket's buffer. A client that does not read for STUCK_MS is given up. */
static int put(struct connection *c, const struct text *what) {
    for (size_t sent = 0; sent < what->size;) {
        ssize_t n = send(c->fd, what->bytes + sent, what->size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) { sent += (size_t)n; continue; }
        struct pollfd writable = {.fd = c->fd, .events = POLLOUT};
        if (errno != EAGAIN || poll(&writable, 1, STUCK_MS) <= 0) return -1;
    }
    return 0;
}

/* The number after `name` in the request, or `otherwise`. */
static long said(const char *request, const char *name, long otherwise) {
    const char *at = strstr(request, name);
    return at ? atol(at + strlen(name)) : otherwise;
}

static int wants_stream(const char *body) {
    const char *at = strstr(body, "\"stream\"");
    return at && !strncmp(at + 8 + strspn(at + 8, " :"), "true", 4);
}

/* Send what is due of a stream, its end included, and have it in `paced` for as long as there is more to come. */
static int go_on(struct connection *c, uint64_t now) {
    for (; c->left >= 0 && c->due <= now; c->left--, c->due += c->pace)
        if (put(c, c->left ? &c->dialect->event : c->last)) return -1;
    if (c->left < 0) leave_paced(c);
    else if (c->place < 0) {
        if (paced_count == MAX_PACED) return -1;
        c->place = paced_count, paced[paced_count++] = c;
    }
    return 0;
}

static int answer(struct connection *c, const char *body) {
    const char *line_end = strchr(c->request, '\r');
    const char *messages = strstr(c->request, "/messages ");
    c->dialect = messages && messages < line_end ? &anthropic : &openai;
    if (!wants_stream(body)) {
        c->left = 0, c->last = &c->dialect->plain, c->due = now_us() + (uint64_t)said(body, "after=", 0) * 1000;
        return go_on(c, now_us());
    }
    c->last = &c->dialect->closing, c->left = said(body, "events=", 100), c->pace = (uint64_t)said(body, "pace=", 0) * 1000, c->due = now_us();
    return put(c, &c->dialect->opening) || go_on(c, c->due);
}

/* The size of the body behind a whole head, chunked bodies with their chunk lines; -1: not all of it is here yet. */
static long body_size(const struct connection *c, const char *body) {
    const char *length = strcasestr(c->request, "\r\ncontent-length:");
    if (length && length < body) return atol(length + 17);
    const char *chunked = strcasestr(c->request, "\r\ntransfer-encoding: chunked");
    if (!chunked || chunked > body) return 0;
    const char *end = strstr(body, "0\r\n\r\n");
    return end ? end + 5 - body : -1;
}

/* Answer the request if all of it is here. Clients that send the next one before the answer are not served. */
static int receive(struct connection *c) {
    ssize_t n = recv(c->fd, c->request + c->size, MAX_REQUEST - c->size, MSG_DONTWAIT);
    if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
    c->size += (size_t)n, c->request[c->size] = 0;
    const char *head_end = strstr(c->request, "\r\n\r\n");
    if (!head_end) return 0;
    const char *body = head_end + 4;
    long size = body_size(c, body);
    if (size < 0 || c->size < (size_t)(body - c->request) + (size_t)size) return 0;
    c->size = 0;
    return answer(c, body);
}

static void send_what_is_due(void) {
    uint64_t now = now_us();
    for (int i = paced_count - 1; i >= 0; i--) /* backwards: leaving moves the last one here */
        if (paced[i]->due <= now && go_on(paced[i], now)) hang_up(paced[i]);
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    if (bind(fd, (struct sockaddr *)&at, size) || listen(fd, 4096)) { perror("upstream: listen"); exit(1); }
    getsockname(fd, (struct sockaddr *)&at, &size);
    printf("port %d\n", ntohs(at.sin_port)), fflush(stdout);
    return fd;
}

static void accept_all(int listener, int poller) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, 0)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *c = calloc(1, sizeof *c);
        c->fd = fd, c->place = -1;
        struct epoll_event want = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &want);
    }
}

int main(int count, char **arguments) {
    if (count != 2) { fprintf(stderr, "usage: upstream PORT\n"); return 2; }
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* not left behind, whatever happens to who started it */
    speak_openai(&openai), speak_anthropic(&anthropic);
    int listener = listen_on(atoi(arguments[1])), poller = epoll_create1(0);
    struct epoll_event want = {.events = EPOLLIN, .data.ptr = NULL}, happened[BATCH];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &want);
    for (;;) {
        int n = epoll_wait(poller, happened, BATCH, paced_count ? 1 : -1);
        for (int i = 0; i < n; i++) {
            struct connection *c = happened[i].data.ptr;
            if (!c) accept_all(listener, poller);
            else if (receive(c)) hang_up(c);
        }
        if (paced_count) send_what_is_due();
    }
}
