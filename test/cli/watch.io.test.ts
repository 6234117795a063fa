import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { create } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { DiscoveryDelta_Action } from "../../gen/waymark/catalog/v1/delta_pb.js";
import { Snapshot } from "../../gen/waymark/catalog/v1/watch_pb.js";
import { type CatalogWatchResponse, CatalogWatchResponseSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { waymark } from "../fakes/cli-world.ts";
import { FakeDiscovery } from "../fakes/discovery-server.ts";
import { until } from "../fakes/until.ts";

const started: FakeDiscovery[] = [];

async function startFake(): Promise<FakeDiscovery> {
  const fake = new FakeDiscovery();
  await fake.start();
  started.push(fake);
  return fake;
}

afterEach(() => {
  for (const fake of started.splice(0)) fake.stop();
});

function put(name: string, seq: number) {
  const key = { namespace: "a", name, instanceId: "1", kind: 1 };
  return {
    deltaId: `n/1/${seq}`,
    action: DiscoveryDelta_Action.CREATE,
    revision: BigInt(seq),
    payload: { case: "entry" as const, value: { key } },
  };
}

const message = (init: Parameters<typeof create<typeof CatalogWatchResponseSchema>>[1]): CatalogWatchResponse =>
  create(CatalogWatchResponseSchema, init);
const snapshot = message({ deltas: [put("one", 1)], snapshot: Snapshot.BEGIN });
const end = message({ deltas: [put("two", 2)], snapshot: Snapshot.END, portableCursor: "p2", revision: 2n });

test("nobody is told that a watch is still being worked on once it has begun", async () => {
  const fake = await startFake();
  // Nothing there, nothing to print: the snapshot's end alone says that it is on.
  fake.watchScript = [[message({ snapshot: Snapshot.BEGIN }), message({ snapshot: Snapshot.END, portableCursor: "p1", revision: 1n })]];
  const interrupt = new AbortController();
  let isCancelled = false;
  const later = () => () => {
    isCancelled = true;
  };
  let wasCancelled = false;
  const onStderr = (text: string) => {
    if (!text.includes("following changes")) return;
    setImmediate(() => {
      wasCancelled = isCancelled;
      interrupt.abort();
    });
  };
  const ran = await waymark(["discovery", "watch", "--server", fake.address], { interrupt: interrupt.signal, later, onStderr });
  expect(ran.exit).toBe(0);
  expect(wasCancelled).toBe(true);
});

test("a watch ends at --timeout where a server takes the connection and says nothing", async () => {
  const mute = createServer((socket) => socket.on("error", () => {})).listen(0, "127.0.0.1");
  await once(mute, "listening");
  const { port } = mute.address() as AddressInfo;
  const argv = ["discovery", "watch", "--timeout", "500ms", "--quiet", "--server"];
  const stallClock = AbortSignal.timeout(60_000);
  const ran = await waymark([...argv, `127.0.0.1:${port}`], { interrupt: stallClock });
  mute.close();
  expect(ran).toMatchObject({ exit: 3, stdout: "" });
  expect(ran.stderr).toContain("no answer within 500ms");
});

test("a watch that has nothing to tell lasts longer than --timeout", async () => {
  const fake = await startFake();
  fake.watchScript = [[]];
  const interrupt = new AbortController();
  const watching = waymark(["discovery", "watch", "--timeout", "300ms", "--quiet", "--server", fake.address], {
    interrupt: interrupt.signal,
  });
  await until("it is open", () => fake.watchRequests.length > 0);
  const openedMs = performance.now();
  await until("the time is over", () => performance.now() > openedMs + 900);
  interrupt.abort();
  expect(await watching).toEqual({ exit: 0, stdout: "", stderr: "" });
});

test("a watch that is cut resumes from the last whole cursor and tells nothing twice", async () => {
  const fake = await startFake();
  fake.watchScript = [
    [snapshot, end],
    [message({ deltas: [put("two", 2), put("three", 3)], cursor: "s3" })],
    // The server drained, so its short cursor means nothing any more: what it told since the portable one comes again.
    [message({ deltas: [put("three", 3), put("four", 4)] })],
  ];
  const { exit, stdout, stderr } = await waymark(["discovery", "watch", "--count", "4", "-o", "json", "--server", fake.address]);
  expect(exit).toBe(0);
  const lines = stdout
    .trimEnd()
    .split("\n")
    .map((line): unknown => JSON.parse(line));
  expect(lines).toMatchObject([
    { event: "create", entry: { key: { name: "one" } } },
    { event: "create", entry: { key: { name: "two" } } },
    { event: "synced", count: 2, cursor: "p2" },
    { event: "create", entry: { key: { name: "three" } } },
    { event: "create", entry: { key: { name: "four" } } },
  ]);
  expect(fake.watchRequests.map(({ cursor }) => cursor)).toEqual(["", "p2", "p2"]);
  expect(stderr).toContain("watch interrupted");
});

test("--until-synced ends after the snapshot, as a table for people", async () => {
  const fake = await startFake();
  fake.watchScript = [[snapshot, end]];
  const { exit, stdout } = await waymark(["discovery", "watch", "--until-synced", "--server", fake.address]);
  expect(exit).toBe(0);
  expect(stdout).toMatch(/^ACTION .*\ncreate .* one .*\ncreate .* two .*\n$/);
});

test.each([
  { code: status.PERMISSION_DENIED, reason: "DISCOVERY_ACCESS_DENIED", exit: 4 },
  { code: status.INVALID_ARGUMENT, reason: "INVALID_ARGUMENT", exit: 1 },
])("a watch that is refused with $reason ends with exit code $exit", async ({ code, reason, exit }) => {
  const fake = await startFake();
  fake.refusals.set("catalogWatch", { code, message: reason, reason });
  expect((await waymark(["discovery", "watch", "--server", fake.address])).exit).toBe(exit);
});

test("an interrupt ends a watch without an error", async () => {
  const fake = await startFake();
  fake.watchScript = [[snapshot, end]];
  const interrupt = new AbortController();
  const { exit, stderr } = await waymark(["discovery", "watch", "--server", fake.address], {
    interrupt: interrupt.signal,
    onStdout: () => interrupt.abort(),
  });
  expect(exit).toBe(0);
  expect(stderr).not.toContain("error");
});
