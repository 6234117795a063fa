/**
 * What becomes of a node when its read workers end, hang or cannot listen, and when its main thread stands still.
 *
 * @module-tag night
 */
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { create, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, expect, test } from "vitest";
import { DiscoveryService } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { PolicyService, PolicySetSchema } from "../../gen/waymark/policy/v1/policy_pb.js";
import { loadConfig } from "../../src/config/load.ts";
import { openLog } from "../../src/lib/log.io.ts";
import { startNode } from "../../src/node/node.io.ts";
import type { RunningNode } from "../../src/node/starting.io.ts";
import { hang, onReadWorker } from "../fakes/hung-worker.ts";
import { GrpcDoor } from "../fakes/node.ts";
import { until } from "../fakes/until.ts";

const root = mkdtempSync(join(tmpdir(), "waymark-worker-deaths-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const ENDED = "read worker ended; its connections are closed";
/** Sessions that reach both of two workers, but for one run in two thousand. */
const SESSIONS = 12;

/** The newest thread of each read worker of the node in this process. */
const threads = new Map<string, Worker>();
onReadWorker((thread, name) => threads.set(name, thread));

function threadOf(number: number): Worker {
  const thread = threads.get(`reads ${number}`);
  if (thread === undefined) throw new Error(`there is no read worker ${number}`);
  return thread;
}

/** Unlike `once`, which fails when the thread does. */
function exitOf(thread: Worker): Promise<void> {
  return new Promise((resolve) => void thread.once("exit", () => resolve()));
}

/** What a worker cannot read, so that it throws where nobody catches it. */
function breakDown(thread: Worker): void {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- it is a thread, not a window
  thread.postMessage({});
}

interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly worker?: number;
  readonly err?: { readonly message: string };
}

class TestNode implements AsyncDisposable {
  readonly node: RunningNode;
  readonly lines: readonly LogLine[];

  constructor(node: RunningNode, lines: readonly LogLine[]) {
    this.node = node;
    this.lines = lines;
  }

  get grpc(): string {
    return this.node.listeners["grpc"] ?? "";
  }

  get http(): string {
    return this.node.listeners["http"] ?? "";
  }

  linesWith(msg: string): readonly LogLine[] {
    return this.lines.filter((line) => line.msg === msg);
  }

  /** Resolves when workers have come back so often. */
  async backTimes(count: number): Promise<void> {
    await until("workers are back", () => this.linesWith("read worker restarted").length === count);
  }

  /** Values of the metrics, each by its name and labels. */
  async metrics(): Promise<ReadonlyMap<string, number>> {
    const text = await (await fetch(`http://${this.http}/metrics`, { headers: { connection: "close" } })).text();
    const rows = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    return new Map(rows.map((row) => [row.slice(0, row.lastIndexOf(" ")), Number(row.slice(row.lastIndexOf(" ")))]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.node.stop();
  }
}

async function start(workers: number, flags: Readonly<Record<string, string>> = {}, interrupt?: AbortSignal): Promise<TestNode> {
  const ports = { "listen.grpc_port": "0", "listen.http_port": "0", "dns.udp_port": "0", "fabric.port": "0" };
  const quiet = { "persistence.ephemeral": "true", "node.workers": `${workers}`, "observability.log_level": "silent" };
  const loaded = loadConfig({ env: {}, flags: new Map(Object.entries({ ...ports, ...quiet, ...flags })) });
  if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems));
  const lines: LogLine[] = [];
  const write = (line: string) => void lines.push(JSON.parse(line) as LogLine);
  const log = openLog({ level: "info", scopes: new Map(), format: "json", write });
  return new TestNode(await startNode({ settings: loaded.effective.settings, log, version: "test", interrupt }), lines);
}

const entry = (name: string) => ({ key: { namespace: "svc.shop", name, instanceId: "1" }, targets: [{ host: "192.0.2.1", port: 80 }] });

/** One call on a connection of its own. */
async function ask(node: TestNode, ...call: Parameters<GrpcDoor["ask"]>): ReturnType<GrpcDoor["ask"]> {
  using door = new GrpcDoor(node.grpc);
  return await door.ask(...call);
}

async function names(node: TestNode): Promise<readonly string[]> {
  const { code, response } = await ask(node, "catalogQuery", { namespace: "svc.shop" });
  expect(code).toBe("OK");
  return ((response["items"] ?? []) as { key: { name: string } }[]).map(({ key }) => key.name);
}

/** A watch on a connection of its own. */
class GrpcWatch {
  /** Resolves with the first message; rejects with the refusal. */
  readonly opened: Promise<void>;
  /** Resolves when the stream is over. */
  readonly ended: Promise<void>;

  constructor(grpc: string) {
    const client = createClient(DiscoveryService, createGrpcTransport({ baseUrl: `http://${grpc}` }));
    const first = Promise.withResolvers<void>();
    this.opened = first.promise;
    this.opened.catch(() => {});
    this.ended = this.#read(client.catalogWatch({ namespace: "svc.shop" }), first);
  }

  async #read(messages: AsyncIterable<unknown>, first: PromiseWithResolvers<void>): Promise<void> {
    try {
      for await (const _ of messages) first.resolve();
    } catch (error) {
      first.reject(error);
    }
  }
}

async function openSessions(node: TestNode): Promise<readonly ClientHttp2Session[]> {
  const sessions = Array.from({ length: SESSIONS }, () => connectHttp2(`http://${node.grpc}`).on("error", () => {}));
  await Promise.all(sessions.map((session) => once(session, "remoteSettings")));
  return sessions;
}

test.each([1, 2])(
  "of %i workers one ends again and again: its connections end, and another one takes its place with all that there is",
  { tags: ["night"] },
  async (count) => {
    await using node = await start(count);
    const endings = [(thread: Worker) => void thread.terminate(), breakDown, breakDown];
    const written: string[] = [];
    for (const [round, end] of endings.entries()) {
      const sessions = await openSessions(node);
      const before = await node.metrics();
      const thread = threadOf(1 + (round % count));
      const ended = exitOf(thread);
      end(thread);
      await ended;
      if (count > 1) {
        for (let i = 0; i < 5; i++) {
          written.push(`r${round}-${i}`);
          expect(await ask(node, "register", { entries: [entry(`r${round}-${i}`)], staticLease: true })).toMatchObject({ code: "OK" });
        }
      }
      await node.backTimes(round + 1);
      const cut = sessions.filter(({ destroyed }) => destroyed).length;
      if (count === 1) expect(cut).toBe(SESSIONS);
      else {
        expect(cut).toBeGreaterThan(0);
        expect(cut).toBeLessThan(SESSIONS);
      }
      for (const session of sessions) session.destroy();
      for (let i = 0; i < SESSIONS; i++) expect((await names(node)).toSorted()).toEqual(written.toSorted());
      const after = await node.metrics();
      // Of those of Node itself some have names of counters and are gauges.
      const counters = [...before].filter(([name]) => !name.startsWith("nodejs_") && /_(?:total|count|sum|bucket)(?:\{|$)/.test(name));
      expect(counters.filter(([name, value]) => !((after.get(name) ?? 0) >= value))).toEqual([]);
    }
    expect(node.linesWith(ENDED)).toHaveLength(endings.length);
  },
);

test("two workers that end at once both come back at the first try", async () => {
  await using node = await start(2);
  await Promise.all([threadOf(1).terminate(), threadOf(2).terminate()]);
  await node.backTimes(2);
  expect(node.linesWith(ENDED)).toHaveLength(2);
  // Of what they were told but once, both know it too.
  for (let i = 0; i < SESSIONS; i++) {
    const { response } = await ask(node, "serverInfo");
    expect(response["listeners"]).toEqual(node.node.listeners);
  }
});

test("watches that end with their worker make room for others", { tags: ["night"] }, async () => {
  await using node = await start(2, { "limits.watches": "2" });
  for (let round = 1; round <= 2; round++) {
    const watches = [new GrpcWatch(node.grpc), new GrpcWatch(node.grpc)];
    await Promise.all(watches.map(({ opened }) => opened));
    await expect(new GrpcWatch(node.grpc).opened).rejects.toThrow("this address has a limit of 2 open watches");
    await Promise.all([threadOf(1).terminate(), threadOf(2).terminate()]);
    await Promise.all(watches.map(({ ended }) => ended));
    await node.backTimes(2 * round);
  }
});

test("a worker that hangs is ended after ten seconds, and what waited for it goes on", { tags: ["night"] }, async () => {
  await using node = await start(2);
  const sessions = await openSessions(node);
  const thread = threadOf(1);
  const ended = exitOf(thread);
  hang(thread);
  using door = await answering(node);
  const before = await door.revision();
  const written = door.ask("register", { entries: [entry("late")], staticLease: true });
  const rules = [{ namespace: "svc.shop", visibilityTenants: ["nobody"], policyVersion: "v1" }];
  const policy = create(PolicySetSchema, { version: "v1", defaultAllow: true, rules });
  const { applyPolicy } = PolicyService.method;
  const applied = door.send(applyPolicy, toBinary(applyPolicy.input, create(applyPolicy.input, { policy, reason: "test" })));
  // Whoever reads at the other worker is answered meanwhile.
  expect(await door.revision()).toBeGreaterThanOrEqual(before);
  expect(node.linesWith(ENDED)).toEqual([]);
  expect(await written).toMatchObject({ code: "OK" });
  // Not before: else whoever asks that worker next would not find it.
  expect(node.linesWith(ENDED)).toHaveLength(1);
  expect(await applied).toMatchObject({ code: "OK" });
  await ended;
  expect(node.linesWith(ENDED)).toEqual([
    expect.objectContaining({
      worker: 1,
      err: expect.objectContaining({ message: "the worker no longer confirms messages" }) as unknown,
    }),
  ]);
  await node.backTimes(1);
  for (let i = 0; i < SESSIONS; i++) expect(await names(node)).toEqual([]);
  for (const session of sessions) session.destroy();
});

/** A connection to a worker that answers. */
async function answering(node: TestNode): Promise<GrpcDoor> {
  for (;;) {
    const door = new GrpcDoor(node.grpc);
    const answered = await Promise.race([door.revision().then(() => true), delay(1000, false)]);
    if (answered) return door;
    door[Symbol.dispose]();
  }
}

/** What keeps a process. */
function timers(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
}

test("a stop leaves no timer behind, although a worker has ended just before", { tags: ["night"] }, async () => {
  const before = timers();
  const node = await start(2);
  await threadOf(1).terminate();
  await node.node.stop();
  await expect.poll(timers, { timeout: 300, message: "timers after a stop" }).toBeLessThanOrEqual(before);
});

test("a port that somebody took while no worker was there is said, and tried again", { tags: ["night"] }, async () => {
  await using node = await start(1);
  const port = Number(node.grpc.split(":").at(-1));
  const thread = threadOf(1);
  const ended = exitOf(thread);
  void thread.terminate();
  await ended;
  const taken = createServer();
  taken.listen(port, "127.0.0.1");
  await once(taken, "listening");
  const said = () => node.linesWith(ENDED).map(({ err }) => err?.message ?? "");
  await expect.poll(said, { message: "the port is said" }).toContainEqual(expect.stringContaining("address already in use"));
  taken.close();
  await node.backTimes(1);
  expect(await names(node)).toEqual([]);
});

test("a stop with a worker that hangs has time for all that closes after it", { tags: ["night"] }, async () => {
  const node = await start(2, { "node.stop_timeout": "1s" });
  hang(threadOf(2));
  const begun = performance.now();
  await node.node.stop();
  expect(performance.now() - begun).toBeLessThan(4000);
  expect(node.lines.filter(({ msg }) => msg === "component not closed" || msg === "component not drained")).toEqual([
    expect.objectContaining({ component: "read workers", msg: "component not drained" }),
  ]);
});

test("a stop while copies are made does not wait for them, and ends their threads", { tags: ["night"] }, async () => {
  const interrupt = new AbortController();
  const before = new Map(threads);
  const starting = start(2, {}, interrupt.signal);
  const refused = starting.then(
    () => "started",
    (error: unknown) => error,
  );
  const made = ["reads 1", "reads 2"];
  await until("threads are there", () => made.every((name) => threads.get(name) !== before.get(name)));
  // Of what is said to it, its copy among that, it hears nothing any more.
  const ended = [threadOf(1), threadOf(2)].map((thread) => {
    hang(thread);
    return exitOf(thread);
  });
  interrupt.abort();
  expect(await Promise.race([refused, delay(5000, "it goes on")])).toBe(interrupt.signal.reason);
  await Promise.all(ended);
});

test("readers are answered while the main thread stands still, and calls that it takes are answered afterwards", {
  tags: ["night"],
}, async () => {
  await using node = await start(2);
  await ask(node, "register", { entries: [entry("one")], staticLease: true });
  const held = new Int32Array(new SharedArrayBuffer(4));
  const asked = new Worker(
    `const { parentPort, workerData: { http, held } } = require("node:worker_threads");
    const ask = async (path, body) => {
      const init = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
      const reply = await fetch("http://" + http + path, init);
      await reply.text();
      return reply.status;
    };
    const service = "/waymark.discovery.v1.DiscoveryService/";
    parentPort.once("message", async () => {
      Atomics.wait(held, 0, 0, 300);
      let isPassed = false;
      const passed = ask(service + "Register", { entries: [{ key: { namespace: "svc.shop", name: "two", instanceId: "1" } }], staticLease: true });
      passed.then(() => (isPassed = true));
      const answers = [];
      for (let i = 0; i < 5; i++) answers.push(await ask("/healthz"));
      answers.push(await ask(service + "CatalogQuery", { namespace: "svc.shop" }), await ask("/readyz"));
      const wasHeld = !isPassed;
      Atomics.store(held, 0, 1);
      Atomics.notify(held, 0);
      parentPort.postMessage({ answers, wasHeld, passed: await passed });
    });
    parentPort.postMessage("here");`,
    { eval: true, workerData: { http: node.http, held } },
  );
  await once(asked, "message");
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- as above
  asked.postMessage("go");
  // Until the reader has its answers.
  expect(Atomics.wait(held, 0, 0, 30_000)).not.toBe("timed-out");
  const [said] = (await once(asked, "message")) as [unknown];
  expect(said).toEqual({ answers: Array.from({ length: 7 }, () => 200), wasHeld: true, passed: 200 });
});
