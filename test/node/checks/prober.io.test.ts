/** Probes against real sockets on loopback. */
import type { Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { FAILURE } from "../../../src/catalog/entry/checks.ts";
import type { HealthProbe } from "../../../src/discovery/checks/probe.ts";
import { ProbeAllowList } from "../../../src/discovery/checks/probe-allow-list.ts";
import { type CheckOutcome, failed, PASSED } from "../../../src/discovery/checks/threshold.ts";
import { Prober, type ResolveAddresses } from "../../../src/node/checks/prober.io.ts";
import { answering, closeServers, freePort, healthServer, wordyHealthServer } from "../../fakes/probed-servers.ts";
import { until } from "../../fakes/until.ts";

afterEach(closeServers);

const LOOPBACK = new ProbeAllowList(["127.0.0.0/8", "::1/128"]);
const PATIENT_MS = 30_000;
const AT = { host: "127.0.0.1", timeoutMs: PATIENT_MS };
const http = (port: number, more: Partial<Extract<HealthProbe, { kind: "http" }>> = {}): HealthProbe => ({
  kind: "http",
  ...AT,
  port,
  isTls: false,
  path: "/healthz",
  statuses: { min: 200, max: 299 },
  ...more,
});
const grpc = (port: number, more: Partial<Extract<HealthProbe, { kind: "grpc" }>> = {}): HealthProbe => ({
  kind: "grpc",
  ...AT,
  port,
  isTls: false,
  service: "web",
  ...more,
});
const tcp = (port: number, more: Partial<Extract<HealthProbe, { kind: "tcp" }>> = {}): HealthProbe => ({
  kind: "tcp",
  ...AT,
  port,
  ...more,
});
const reply = (text: string) => (socket: Socket) => socket.end(text);
const run = (probe: HealthProbe, resolve?: ResolveAddresses): Promise<CheckOutcome> => new Prober(LOOPBACK, resolve).probe(probe);

test.each([
  ["200", reply("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), PASSED],
  ["503", reply("HTTP/1.1 503 Service Unavailable\r\n\r\n"), failed(FAILURE.STATUS, 503)],
  ["nothing, and closes", (socket: Socket) => socket.end(), failed(FAILURE.REFUSED)],
  ["nothing, and resets", (socket: Socket) => socket.resetAndDestroy(), failed(FAILURE.REFUSED)],
  ["garbage", reply("SSH-2.0-OpenSSH_9.9\r\n"), failed(FAILURE.MALFORMED)],
  ["half a status line, and closes", reply("HTTP/1.1 2"), failed(FAILURE.MALFORMED)],
])("a server of HTTP says %s", async (_what, answer, outcome) => {
  const { port } = await answering(answer);
  expect(await run(http(port))).toEqual(outcome);
});

test("a redirect is not followed", async () => {
  const elsewhere = await answering(reply("HTTP/1.1 200 OK\r\n\r\n"));
  const { port, said } = await answering(reply(`HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:${elsewhere.port}/\r\n\r\n`));
  expect(await run(http(port))).toEqual(failed(FAILURE.STATUS, 302));
  expect(await run(http(port, { statuses: { min: 200, max: 399 } }))).toEqual(PASSED);
  expect([said.length, elsewhere.connectionCount()]).toEqual([2, 0]);
});

test("a probe says no credential, and goes by no proxy", async () => {
  const proxy = await answering(reply("HTTP/1.1 200 OK\r\n\r\n"));
  const names = ["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "NODE_USE_ENV_PROXY"];
  const before = names.map((name) => process.env[name]);
  for (const name of names) process.env[name] = name === "NODE_USE_ENV_PROXY" ? "1" : `http://user:secret@127.0.0.1:${proxy.port}`;
  try {
    const { port, said } = await answering(reply("HTTP/1.1 204 x\r\n\r\n"));
    const health = await healthServer(new Map([["web", 1]]));
    expect([await run(http(port)), await run(grpc(health.port))]).toEqual([PASSED, PASSED]);
    expect(said.join("")).toMatch(/^GET \/healthz HTTP\/1\.1\r\nhost: 127\.0\.0\.1:\d+\r\n/);
    expect(said.join("")).not.toMatch(/authorization|cookie|secret/i);
    expect(health.said).toEqual(["/grpc.health.v1.Health/Check web undefined"]);
    expect(proxy.connectionCount()).toBe(0);
  } finally {
    names.forEach((name, i) => {
      const value = before[i];
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    });
  }
});

test.each([false, true])("of an endless answer little is read, and the connection is closed (TLS: %s)", async (isTls) => {
  let closed = 0;
  const endless = (head: string) => (socket: Socket) => {
    socket.once("close", () => {
      closed += 1;
    });
    const more = () => {
      while (!socket.destroyed && socket.write("x".repeat(65_536)));
    };
    socket.on("drain", more);
    socket.write(head);
    more();
  };
  const body = await answering(endless("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"), { isTls });
  expect(await run(http(body.port, { isTls }))).toEqual(PASSED);
  const head = await answering(endless("HTTP/1.1 200 "), { isTls });
  expect(await run(http(head.port, { isTls }))).toEqual(failed(FAILURE.MALFORMED));
  await until("both are closed", () => closed === 2);
});

const long = "x".repeat(4000);
/** The status is the first field of the message; the other is one that nobody knows. */
const padded = (sizeBytes: number) =>
  Buffer.concat([Buffer.from([8, 1, 0x12, (sizeBytes & 0x7f) | 0x80, sizeBytes >> 7]), Buffer.alloc(sizeBytes)]);

test.each([
  ["a head that is long", { head: { "x-long": long.repeat(3) } }],
  ["trailers that are long", { trailers: { "x-long": long.repeat(3) } }],
  ["a message that is long", { message: Buffer.alloc(4097) }],
  ["a head, a message and trailers that are long together", { head: { "x-a": long }, message: padded(4000), trailers: { "x-b": long } }],
  ["announcements without end", { announcements: Number.POSITIVE_INFINITY }],
])("of an answer of gRPC no more than 4 KiB are read: %s", async (_what, wordy) => {
  for (const isTls of [false, true]) {
    const { port, openCount } = await wordyHealthServer(wordy, { isTls });
    expect(await run(grpc(port, { isTls, timeoutMs: 5_000 }))).toEqual(failed(FAILURE.MALFORMED));
    await until("it is closed", () => openCount() === 0);
  }
});

test("an answer of gRPC may have some words", async () => {
  const { port } = await wordyHealthServer({ announcements: 1, head: { "x-a": "some" }, message: padded(3000) });
  expect(await run(grpc(port))).toEqual(PASSED);
});

test("a server that takes its time is given up, and so is a name", async () => {
  const silent = await answering();
  const drop = await answering((socket) => socket.write("HTTP/1.1 2"));
  const soon = { timeoutMs: 50 };
  expect(await Promise.all([run(http(silent.port, soon)), run(http(drop.port, soon)), run(grpc(silent.port, soon))])).toEqual(
    Array.from({ length: 3 }, () => failed(FAILURE.TIMEOUT)),
  );
  expect(await run(tcp(silent.port, { ...soon, host: "slow.test" }), () => new Promise(() => {}))).toEqual(failed(FAILURE.TIMEOUT));
});

test("a server that writes a byte at a time is not given more than the timeout", async () => {
  const { port } = await answering((socket) => {
    const timer = setInterval(() => socket.write("H"), 5);
    socket.once("close", () => clearInterval(timer));
  });
  expect(await run(http(port, { timeoutMs: 100 }))).not.toEqual(PASSED);
});

test.each([
  ["SERVING", 1, PASSED],
  ["NOT_SERVING", 2, failed(FAILURE.NOT_SERVING)],
])("a server of gRPC says %s, in the clear and in TLS that nobody trusts", async (_what, status, outcome) => {
  const services = new Map([["web", status]]);
  const [plain, secure] = [await healthServer(services), await healthServer(services, { isTls: true })];
  expect(await run(grpc(plain.port))).toEqual(outcome);
  expect(await run(grpc(secure.port, { isTls: true }))).toEqual(outcome);
  expect(await run(grpc(plain.port, { service: "other" }))).toEqual(failed(FAILURE.NOT_SERVING));
});

test("a server of something else is no server of gRPC, and the other way round", async () => {
  const other = await answering(reply("HTTP/1.1 200 OK\r\n\r\n"));
  const health = await healthServer(new Map([["", 1]]));
  expect(await run(grpc(other.port))).toEqual(failed(FAILURE.MALFORMED));
  expect(await run(http(health.port))).toEqual(failed(FAILURE.MALFORMED));
  expect(await run(http(other.port, { isTls: true }))).toEqual(failed(FAILURE.MALFORMED));
});

test("HTTP in TLS that nobody trusts is probed", async () => {
  const { port, said } = await answering(reply("HTTP/1.1 200 OK\r\n\r\n"), { isTls: true });
  expect(await run(http(port, { isTls: true, host: "localhost" }), () => Promise.resolve(["127.0.0.1"]))).toEqual(PASSED);
  expect(said[0]).toContain(`host: localhost:${port}\r\n`);
});

test("a TCP port is open or not", async () => {
  const { port, said } = await answering();
  expect(await run(tcp(port))).toEqual(PASSED);
  expect(await run(tcp(await freePort()))).toEqual(failed(FAILURE.REFUSED));
  expect(said).toEqual([]);
});

test("an address that is not allowed is not connected to, as a literal or behind a name", async () => {
  const { port, connectionCount } = await answering();
  const nowhere = new Prober(new ProbeAllowList(["10.0.0.0/8", "0.0.0.0/0", "::/0"]), () =>
    Promise.resolve(["127.0.0.1", "::1", "::ffff:127.0.0.1"]),
  );
  for (const host of ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "::1"])
    expect([host, await nowhere.probe(tcp(port, { host }))]).toEqual([host, failed(FAILURE.NOT_ALLOWED)]);
  expect(await nowhere.probe(tcp(port, { host: "web.test" }))).toEqual(failed(FAILURE.NAME));
  expect(connectionCount()).toBe(0);
});

test("the address that was tested is the one that is connected to: a name is resolved once, whatever it says afterwards", async () => {
  const inside = await answering(reply("HTTP/1.1 200 OK\r\n\r\n"), { host: "127.0.0.2" });
  const good = await answering(reply("HTTP/1.1 200 OK\r\n\r\n"), { host: "127.0.0.1", port: inside.port });
  // What a server of DNS says that wants the check to reach another address: the first answer passes the test, the next is where it aims.
  const answers = [["127.0.0.1"], ["127.0.0.2"]];
  let askedCount = 0;
  const rebinding: ResolveAddresses = () => Promise.resolve(answers[Math.min(askedCount++, 1)] ?? []);
  const prober = new Prober(new ProbeAllowList(["127.0.0.1/32"]), rebinding);
  expect(await prober.probe(http(inside.port, { host: "rebind.test" }))).toEqual(PASSED);
  expect([askedCount, good.connectionCount(), inside.connectionCount()]).toEqual([1, 1, 0]);
  // The next probe asks again, and what it is told now is tested too.
  expect(await prober.probe(http(inside.port, { host: "rebind.test" }))).toEqual(failed(FAILURE.NAME));
  expect([askedCount, inside.connectionCount()]).toEqual([2, 0]);
});

test("of several addresses those that are allowed are tried in order, and no other", async () => {
  const { port, connectionCount } = await answering(undefined, { host: "127.0.0.3" });
  const other = await answering(undefined, { host: "127.0.0.4", port });
  const prober = new Prober(new ProbeAllowList(["127.0.0.2/31", "127.0.0.5"]), () =>
    Promise.resolve(["127.0.0.4", "127.0.0.2", "127.0.0.3"]),
  );
  expect(await prober.probe(tcp(port, { host: "many.test" }))).toEqual(PASSED);
  expect([connectionCount(), other.connectionCount()]).toEqual([1, 0]);
});

test.each(["xn--0.test", "0x7f000001", "a_b.test", "web.test."])(
  "a host that is odd in a URL or in TLS is probed like any other: %s",
  async (host) => {
    const there: ResolveAddresses = () => Promise.resolve(["127.0.0.1"]);
    const services = new Map([["web", 1]]);
    const [plain, secure] = [await healthServer(services), await healthServer(services, { isTls: true })];
    const web = await answering(reply("HTTP/1.1 200 OK\r\n\r\n"), { isTls: true });
    const outcomes = [await run(grpc(plain.port, { host }), there), await run(grpc(secure.port, { host, isTls: true }), there)];
    expect([...outcomes, await run(http(web.port, { host, isTls: true }), there)]).toEqual([PASSED, PASSED, PASSED]);
  },
);

test("a name that no request of gRPC can say is malformed", async () => {
  const { port } = await healthServer(new Map([["web", 1]]));
  expect(await run(grpc(port, { host: "web.0x" }), () => Promise.resolve(["127.0.0.1"]))).toEqual(failed(FAILURE.MALFORMED));
});

test("a name without an address, and one of the system's own", async () => {
  const { port } = await answering();
  expect(await run(tcp(port, { host: "none.test" }), () => Promise.reject(new Error("ENOTFOUND")))).toEqual(failed(FAILURE.NAME));
  expect(await run(tcp(port, { host: "none.test" }), () => Promise.resolve([]))).toEqual(failed(FAILURE.NAME));
  // By the hosts file.
  const { port: both } = await answering();
  expect([PASSED, failed(FAILURE.REFUSED)]).toContainEqual(await run(tcp(both, { host: "localhost" })));
});

test("a name without an address and a name with disallowed addresses fail in the same way, so checks do not reveal whether it exists", async () => {
  const answers: readonly ResolveAddresses[] = [
    () => Promise.reject(new Error("ENOTFOUND")),
    () => Promise.resolve([]),
    () => Promise.resolve(["10.0.0.1"]),
    () => Promise.resolve(["169.254.169.254", "10.0.0.1"]),
  ];
  const outcomes = await Promise.all(answers.map((resolve) => run(http(80, { host: "internal.test" }), resolve)));
  expect(outcomes).toEqual(answers.map(() => failed(FAILURE.NAME)));
});

test("the end of a look-up is reported once, even after the probe timed out; an address needs no look-up", async () => {
  const { port } = await answering();
  const { promise: released, resolve: release } = Promise.withResolvers<readonly string[]>();
  let resolvedCount = 0;
  const onResolved = () => {
    resolvedCount += 1;
  };
  const prober = new Prober(LOOPBACK, () => released);
  expect(await prober.probe(tcp(port, { host: "late.test", timeoutMs: 20 }), { onResolved })).toEqual(failed(FAILURE.TIMEOUT));
  expect(resolvedCount).toBe(0);
  release(["127.0.0.1"]);
  expect(await prober.probe(tcp(port, { host: "a.test" }), { onResolved })).toEqual(PASSED);
  expect(await prober.probe(tcp(port), { onResolved })).toEqual(PASSED);
  expect(resolvedCount).toBe(2);
});

test("a stopped probe ends and closes its connection", async () => {
  const { port, said, openCount } = await answering();
  const prober = new Prober(LOOPBACK);
  const probe = prober.probe(http(port), { id: 7 });
  await until("it has asked", () => said.length === 1);
  prober.cut(7);
  expect(await probe).toEqual(failed(FAILURE.TIMEOUT));
  await until("it is closed", () => openCount() === 0);
});

test("a probe leaves no connection behind, however it ends", async () => {
  const silent = await answering();
  const open = await answering((socket) => socket.write("HTTP/1.1 200 OK\r\n\r\n"));
  const secure = await answering((socket) => socket.write("HTTP/1.1 200 OK\r\n\r\n"), { isTls: true });
  const health = await healthServer(new Map([["web", 1]]));
  const soon = { timeoutMs: 100 };
  expect(await run(tcp(silent.port))).toEqual(PASSED);
  await Promise.all([run(http(silent.port, soon)), run(grpc(silent.port, soon)), run(http(silent.port, { ...soon, isTls: true }))]);
  expect([await run(http(open.port)), await run(http(secure.port, { isTls: true })), await run(grpc(health.port))]).toEqual([
    PASSED,
    PASSED,
    PASSED,
  ]);
  const servers = [silent, open, secure, health];
  expect(servers.map(({ connectionCount }) => connectionCount())).toEqual([4, 1, 1, 1]);
  await until("all are closed", () => servers.every(({ openCount }) => openCount() === 0));
});

test("a prober that is closed cuts what is under way", async () => {
  const { port } = await answering();
  const prober = new Prober(LOOPBACK);
  const never = { timeoutMs: 3_600_000 };
  const probes = [prober.probe(http(port, never)), prober.probe(grpc(port, never))];
  prober.close();
  expect(await Promise.all(probes)).toEqual([failed(FAILURE.TIMEOUT), failed(FAILURE.TIMEOUT)]);
});
